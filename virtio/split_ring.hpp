#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

/// The split virtqueue in memory (VIRTIO 1.3, 2.7): layouts and the event-index rule, for device and driver side.
namespace vitrine::virtio {

struct Descriptor {
    std::uint64_t address;  ///< guest-physical
    std::uint32_t length_bytes;
    std::uint16_t flags;
    std::uint16_t next;

    static constexpr std::uint16_t has_next = 1;
    static constexpr std::uint16_t device_writes = 2;
    static constexpr std::uint16_t indirect = 4;
};
static_assert(sizeof(Descriptor) == 16);

struct UsedElement {
    std::uint32_t head;  ///< first descriptor of the chain that is given back
    std::uint32_t written_bytes;
};
static_assert(sizeof(UsedElement) == 8);

/// Both rings start with `flags, index`; the available ring goes on with u16 heads, the used ring with elements, and
/// each ends with the event index of the *other* side's notifications.
struct RingHeader {
    std::uint16_t flags;
    std::uint16_t index;
};
static_assert(sizeof(RingHeader) == 4);

inline constexpr std::uint16_t available_no_interrupt = 1;
inline constexpr std::uint16_t used_no_notify = 1;

inline constexpr std::uint32_t most_ring_entries = 32768;
constexpr bool valid_ring_entries(std::uint32_t entries) {
    return std::has_single_bit(entries) && entries <= most_ring_entries;
}

inline constexpr std::size_t descriptor_table_alignment = 16;
inline constexpr std::size_t available_ring_alignment = 2;
inline constexpr std::size_t used_ring_alignment = 4;

constexpr std::size_t descriptor_table_bytes(std::size_t entries) {
    return sizeof(Descriptor) * entries;
}
/// Offset of used_event: when the driver wants to hear of used buffers.
constexpr std::size_t used_event_offset(std::size_t entries) {
    return sizeof(RingHeader) + 2 * entries;
}
constexpr std::size_t available_ring_bytes(std::size_t entries) {
    return used_event_offset(entries) + 2;
}
/// Offset of avail_event: when the device wants to hear of available buffers.
constexpr std::size_t available_event_offset(std::size_t entries) {
    return sizeof(RingHeader) + sizeof(UsedElement) * entries;
}
constexpr std::size_t used_ring_bytes(std::size_t entries) {
    return available_event_offset(entries) + 2;
}

/// True when moving an index from `before` to `now` passed `event` (VIRTIO 1.3, 2.7.10).
constexpr bool passes_event(std::uint16_t event, std::uint16_t now, std::uint16_t before) {
    return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

}  // namespace vitrine::virtio
