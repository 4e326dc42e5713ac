#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "virtio/guest_memory.hpp"
#include "virtio/split_ring.hpp"

namespace vitrine::virtio {

/// Where one split ring lies in our address space, translated and checked when the ring starts.
struct RingMemory {
    std::uint16_t entries;
    std::byte* descriptors;
    std::byte* available;
    std::byte* used;
};

/// The eventfds of a ring; -1 is none. Owned by the device, swapped while the poll thread stands still.
struct RingEvents {
    int kick = -1;
    int call = -1;
    int error = -1;
};

/// What the driver agreed to, as far as rings care.
struct RingFeatures {
    bool indirect;
    bool event_index;
};

/// The device side of one split ring (VIRTIO 1.3, 2.7): indices, chains, notifications. It knows no frames.
///
/// Used strictly in order, so used.idx is all that a restart needs: the ring starts at the used.idx that it finds in
/// guest memory. Everything that the guest can write is read once into a local. Poll thread.
class DeviceRing {
public:
    DeviceRing(const GuestMemory& memory, RingMemory where, RingFeatures features, RingEvents events);

    std::uint16_t entries() const { return where_.entries; }
    bool broken() const { return broken_; }
    /// Position of the next chain to take, and of the next to give back.
    std::uint16_t next() const { return next_; }
    std::uint16_t used() const { return used_; }

    /// How many chains wait from next() on. Looks at avail.idx only when fewer than `wanted` are known to wait.
    /// Breaks the ring when the driver claims more than the ring holds.
    std::uint16_t waiting(std::uint16_t wanted) noexcept;
    /// True when avail.idx has moved beyond what was taken. Never breaks the ring.
    bool has_waiting() const noexcept;

    enum class Walk {
        complete,
        refused,  ///< the visitor said no; the chain's head is good and can be given back
        broken,   ///< the chain is no chain: the ring is broken now
    };
    /// Reads the chain at `position` (one that waits) and hands a private copy of each descriptor to `visit`, which
    /// returns false to refuse the chain. Visits at most entries() descriptors.
    template <class Visit>
    Walk walk(std::uint16_t position, std::uint16_t& head, Visit&& visit) noexcept;

    /// Takes `chains` that were walked, in order.
    void take(std::uint16_t chains) noexcept { next_ = static_cast<std::uint16_t>(next_ + chains); }
    /// Un-takes what was not given back.
    void roll_back() noexcept { next_ = used_; }
    /// Gives the oldest taken chain back; the driver sees it with the next publish().
    void give_back(std::uint16_t head, std::uint32_t written_bytes) noexcept;

    enum class Call { nothing_new, suppressed, sent };
    /// Shows the driver what was given back: one store of used.idx, at most one eventfd write.
    Call publish() noexcept;

    /// Says whether the driver should kick when it adds a chain. After saying yes look at has_waiting() again: what
    /// was added in between comes without a kick.
    void want_kicks(bool wanted) noexcept;
    int kick_descriptor() const { return events_.kick; }
    /// Control thread, poll thread stands still.
    void set_events(RingEvents events) { events_ = events; }

    /// Stops the ring for good and tells the front-end.
    void break_ring() noexcept;

private:
    std::uint16_t mask() const { return static_cast<std::uint16_t>(where_.entries - 1); }
    /// Reads descriptor `index` of a table once. The table is 8-byte aligned.
    static Descriptor load_descriptor(std::byte* table, std::uint32_t index) noexcept;
    std::uint16_t load_available(std::size_t offset) const noexcept;
    void store_used(std::size_t offset, std::uint16_t value) noexcept;
    bool driver_wants_call(std::uint16_t before) const noexcept;

    const GuestMemory& memory_;
    RingMemory where_;
    RingFeatures features_;
    RingEvents events_;
    std::uint16_t next_;
    std::uint16_t used_;
    std::uint16_t published_;
    std::uint16_t available_;  ///< avail.idx as last read
    bool broken_ = false;
};

}  // namespace vitrine::virtio
