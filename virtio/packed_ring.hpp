#pragma once

#include <cstddef>
#include <cstdint>

#include "virtio/split_ring.hpp"

/// The packed virtqueue in memory (VIRTIO 1.3, 2.8): layouts and the rules of wrap counters, for device and driver
/// side.
namespace vitrine::virtio {

/// Both what the driver makes available and what the device has used: it is written over in place.
struct PackedDescriptor {
    std::uint64_t address;  ///< guest-physical; of a used one it is left alone, and free for extensions
    std::uint32_t length_bytes;
    std::uint16_t id;  ///< the driver's name for the chain, in its last descriptor
    std::uint16_t flags;

    static constexpr std::uint16_t has_next = Descriptor::has_next;
    static constexpr std::uint16_t device_writes = Descriptor::device_writes;
    static constexpr std::uint16_t indirect = Descriptor::indirect;
    static constexpr std::uint16_t available = 1u << 7;
    static constexpr std::uint16_t used = 1u << 15;

    /// The two bits of a descriptor that was made available, or used, in a lap with this wrap counter (2.8.1).
    static constexpr std::uint16_t available_in(bool wrap) { return wrap ? available : used; }
    static constexpr std::uint16_t used_in(bool wrap) { return wrap ? available | used : 0; }
    static constexpr std::uint16_t lap_mask = available | used;
    static constexpr bool is_available(std::uint16_t flags, bool wrap) {
        return (flags & lap_mask) == available_in(wrap);
    }
    static constexpr bool is_used(std::uint16_t flags, bool wrap) { return (flags & lap_mask) == used_in(wrap); }
};
static_assert(sizeof(PackedDescriptor) == sizeof(Descriptor) && offsetof(PackedDescriptor, length_bytes) == 8 &&
              offsetof(PackedDescriptor, flags) == 14);

/// A place in the ring, and the wrap counter there.
struct PackedPosition {
    std::uint16_t slot = 0;
    bool wrap = true;

    constexpr bool operator==(const PackedPosition&) const = default;
    /// `slots` on, not more than once around.
    constexpr PackedPosition after(std::uint32_t slots, std::uint32_t entries) const {
        const std::uint32_t sum = slot + slots;
        return sum < entries ? PackedPosition{static_cast<std::uint16_t>(sum), wrap}
                             : PackedPosition{static_cast<std::uint16_t>(sum - entries), !wrap};
    }
    /// How many slots lie between `before` and this, which is ahead by less than one time around.
    constexpr std::uint16_t from(PackedPosition before, std::uint32_t entries) const {
        return static_cast<std::uint16_t>(slot - before.slot + (wrap != before.wrap ? entries : 0));
    }
    /// As event suppression and vhost-user write it: the slot, and the wrap counter in bit 15.
    static constexpr PackedPosition of(std::uint16_t raw) {
        return {static_cast<std::uint16_t>(raw & 0x7fff), (raw & 0x8000) != 0};
    }
    constexpr std::uint16_t raw() const { return static_cast<std::uint16_t>(slot | (wrap ? 0x8000 : 0)); }
};

/// Where a packed ring stands, in vhost-user's SET_VRING_BASE and GET_VRING_BASE.
struct PackedBase {
    PackedPosition available;  ///< of the next descriptor to read
    PackedPosition used;       ///< of the next one to write over

    constexpr bool operator==(const PackedBase&) const = default;
    static constexpr PackedBase of(std::uint32_t raw) {
        return {PackedPosition::of(static_cast<std::uint16_t>(raw)),
                PackedPosition::of(static_cast<std::uint16_t>(raw >> 16))};
    }
    constexpr std::uint32_t raw() const { return available.raw() | std::uint32_t{used.raw()} << 16; }
};
static_assert(PackedBase{}.raw() == 0x8000'8000);

/// How one side wants to be notified; each side reads the other's (2.8.10).
struct EventSuppression {
    std::uint16_t position;  ///< PackedPosition::raw(), where flags say so
    std::uint16_t flags;

    static constexpr std::uint16_t enable = 0;
    static constexpr std::uint16_t disable = 1;
    static constexpr std::uint16_t at_position = 2;  ///< needs EVENT_IDX
};
static_assert(sizeof(EventSuppression) == 4);
inline constexpr std::size_t event_suppression_alignment = 4;

/// True when going from `before` to `now` passed over `event`'s slot, all in a ring of `entries` (2.8.10.1).
constexpr bool passes_position(PackedPosition event, PackedPosition now, PackedPosition before, std::uint32_t entries) {
    // Slots as if the lap of `now` began at 0; the lap before it lies below.
    const auto place = [&](PackedPosition position) {
        return static_cast<std::int32_t>(position.slot) -
               (position.wrap != now.wrap ? static_cast<std::int32_t>(entries) : 0);
    };
    return place(event) >= place(before) && place(event) < place(now);
}

constexpr bool valid_packed_entries(std::uint32_t entries) {
    return entries != 0 && entries <= most_ring_entries;
}

}  // namespace vitrine::virtio
