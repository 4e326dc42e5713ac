#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "mem/address.hpp"
#include "virtio/vrx.hpp"

/// What goes into and comes out of a driver's ring, split or packed.
namespace vitrine::guest {

struct RingConfig {
    std::uint16_t entries = 256;  ///< of a split ring a power of two
    bool event_index = true;
    bool indirect = false;            ///< chains of more than one segment go to a table of their own
    std::uint16_t most_segments = 2;  ///< of a chain
    /// OFFSET on a split ring (docs/vrx.md, 5): what stands in the last descriptor. Chains are of one segment then.
    std::optional<virtio::vrx::Marker> marker{};
};

/// A piece of a buffer chain. Those that the device reads come before those that it writes (VIRTIO 1.3, 2.7.4.2).
struct Segment {
    mem::GuestPhys address;
    std::uint32_t length_bytes;
    bool device_writes;
};
inline std::uint32_t writable_bytes_of(std::span<const Segment> chain) {
    std::uint32_t bytes = 0;
    for (const Segment& segment : chain)
        if (segment.device_writes) bytes += segment.length_bytes;
    return bytes;
}

/// A chain that the device gave back.
struct UsedChain {
    std::uint32_t cookie;
    std::uint32_t written_bytes;  ///< never more than the chain's writable segments hold
    std::uint32_t offset = 0;     ///< with OFFSET: where they begin
};

}  // namespace vitrine::guest
