#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "virtio/counters.hpp"
#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"
#include "virtio/packed_device_ring.hpp"
#include "virtio/ring_queue.hpp"

namespace vitrine::virtio {

/// Frames on their way into the guest, by copy into the buffers that it posted. Poll thread.
template <class Ring>
class BasicReceiveQueue : public RingQueue<Ring> {
public:
    /// `mergeable`: MRG_RXBUF was agreed, a frame may fill several buffers.
    BasicReceiveQueue(const GuestMemory& memory, Ring ring, bool mergeable, ReceiveCounters& counters);

    using Outcome = Delivery;

    /// Copies the header and the frame in `pieces` into one guest buffer or, when mergeable, as many as it takes.
    /// `header.buffers` is filled in here. All or nothing; the driver sees it with the next publish().
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept;

    /// Fetches what the next `frames` frames will likely be written to, for writing: the guest's core had it last. A
    /// hint, which takes nothing.
    void prefetch(std::size_t frames) noexcept;

    /// The ring as it stands, for a queue of another kind that goes on with it.
    Ring& ring() { return ring_; }

private:
    using RingQueue<Ring>::ring_;

    /// Guest memory that a frame may be written to.
    struct Segment {
        std::byte* host;
        std::uint32_t length_bytes;
    };
    /// One chain of the frame that is being delivered.
    struct Buffer {
        std::uint16_t head;
        std::uint64_t length_bytes;
    };

    /// Nearly every frame: the next buffer is one piece and holds it all. False: nothing was done, take the long way.
    bool deliver_whole(std::span<const std::span<const std::byte>> pieces, NetHeader header,
                       std::size_t bytes) noexcept;
    /// Takes buffers for `bytes`, or none.
    Outcome gather(std::size_t bytes) noexcept;
    /// Reads one more waiting chain into segments_ and buffers_.
    Outcome add_buffer() noexcept;
    /// Spreads header and frame over segments_, which hold them.
    void copy(const NetHeader& header, std::span<const std::span<const std::byte>> pieces) noexcept;

    const GuestMemory& memory_;
    bool mergeable_;
    ReceiveCounters& counters_;
    std::size_t descriptors_ = 0;    ///< read for one frame
    std::vector<Segment> segments_;  ///< of one frame; never grows past what the constructor reserved
    std::vector<Buffer> buffers_;    ///< likewise
};

using ReceiveQueue = BasicReceiveQueue<DeviceRing>;
using PackedReceiveQueue = BasicReceiveQueue<PackedDeviceRing>;

}  // namespace vitrine::virtio
