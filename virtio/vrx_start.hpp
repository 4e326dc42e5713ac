#pragma once

#include <cstdint>

#include "virtio/device_ring.hpp"
#include "virtio/packed_device_ring.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// What a receive ring turns out to be when its first credit or buffer is seen (docs/vrx.md, 3 and 7.1).
struct RingStart {
    vrx::Mode mode = vrx::Mode::standard;
    bool live = false;                      ///< PAGES: a former process, or an earlier start, answered this very marker
    std::uint32_t buffer_bytes = 0;         ///< OFFSET
    std::uint16_t most_pages_of_frame = 0;  ///< PAGES on a packed ring
    bool credit = false;                    ///< packed, without a marker: an empty descriptor, which no buffer is (9.2)
    vrx::Answer answer{};  ///< a refusal: the ring stays idle. Else it is given by the queue that runs it
};

/// Reads the marker, once. `lending` is null where the operator allows none of this: a marker is refused then, since a
/// ring with one can be nothing else.
RingStart read_marker(const DeviceRing& ring, const PageLending* lending, unsigned queue) noexcept;
/// The same of a packed ring (9.1), whose next chain waits. `agreed`: feature bit 58 is.
RingStart read_marker(const PackedDeviceRing& ring, const PageLending* lending, unsigned queue, bool agreed) noexcept;

/// Answers the marker. The driver of a packed ring, where the marker waits, sees it with the next publish() (9.1).
void answer_marker(DeviceRing& ring, vrx::Answer answer) noexcept;
void answer_marker(PackedDeviceRing& ring, vrx::Answer answer) noexcept;

}  // namespace vitrine::virtio
