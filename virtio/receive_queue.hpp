#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "virtio/counters.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::virtio {

/// Frames on their way into the guest, by copy into the buffers that it posted. Poll thread.
class ReceiveQueue {
public:
    /// `mergeable`: MRG_RXBUF was agreed, a frame may fill several buffers.
    ReceiveQueue(const GuestMemory& memory, DeviceRing ring, bool mergeable, ReceiveCounters& counters);

    enum class Outcome {
        delivered,
        no_buffer,  ///< too few buffers for this frame now; none was used
        dropped,    ///< this ring's buffers can never hold the frame; none was used
        broken,     ///< the ring is broken: nothing moves until the driver starts anew
    };

    /// Copies the header and the frame in `pieces` into one guest buffer or, when mergeable, as many as it takes.
    /// `header.buffers` is filled in here. All or nothing; the driver sees it with the next publish().
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept;

    /// Shows the driver what was delivered: one store of used.idx, at most one eventfd write.
    void publish() noexcept;

    /// True when the driver has posted buffers that are not used yet. A ring that never has any is an unused pair.
    bool has_buffers() const noexcept { return ring_.has_waiting(); }
    /// Whether the driver should kick when it posts buffers; look at has_buffers() again after saying yes.
    void want_kicks(bool wanted) noexcept { ring_.want_kicks(wanted); }
    /// -1: the front-end gave none and the ring must be polled.
    int kick_descriptor() const { return ring_.kick_descriptor(); }
    /// Reads the kick eventfd; at most once a loop, however often the guest kicks.
    void drain_kick() noexcept;

    bool broken() const { return ring_.broken(); }
    const ReceiveCounters& counters() const { return counters_; }
    DeviceRing& ring() { return ring_; }

private:
    /// Guest memory that a frame may be written to.
    struct Segment {
        std::byte* host;
        std::uint32_t length_bytes;
    };
    /// One chain of the frame that is being delivered.
    struct Buffer {
        std::uint16_t head;
        std::uint32_t length_bytes;
    };

    /// Walks the chain at `position` and adds its memory to segments_; its length in `buffer`.
    DeviceRing::Walk add_buffer(std::uint16_t position, Buffer& buffer) noexcept;
    void copy(const NetHeader& header, std::span<const std::span<const std::byte>> pieces) noexcept;

    const GuestMemory& memory_;
    DeviceRing ring_;
    bool mergeable_;
    ReceiveCounters& counters_;
    std::vector<Segment> segments_;  ///< of one frame; never grows past what the constructor reserved
    std::vector<Buffer> buffers_;    ///< likewise
};

}  // namespace vitrine::virtio
