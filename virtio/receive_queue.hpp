#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "virtio/counters.hpp"
#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::virtio {

/// Frames on their way into the guest, by copy into the buffers that it posted. Poll thread.
class ReceiveQueue {
public:
    /// `mergeable`: MRG_RXBUF was agreed, a frame may fill several buffers.
    ReceiveQueue(const GuestMemory& memory, DeviceRing ring, bool mergeable, ReceiveCounters& counters);

    using Outcome = Delivery;

    /// Copies the header and the frame in `pieces` into one guest buffer or, when mergeable, as many as it takes.
    /// `header.buffers` is filled in here. All or nothing; the driver sees it with the next publish().
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept;

    /// Fetches what the next `frames` frames will likely be written to, for writing: the guest's core had it last. A
    /// hint, which takes nothing.
    void prefetch(std::size_t frames) noexcept;

    /// Shows the driver what was delivered: one store of used.idx, at most one eventfd write. False: nothing was.
    bool publish() noexcept { return ring_.publish(); }
    /// publish() without the interrupt, which follows with the next one. While the poll thread stands still.
    bool show() noexcept { return ring_.show(); }
    void owe_call() noexcept { ring_.owe_call(); }

    /// True when the driver has posted buffers that are not used yet. A ring that never has any is an unused pair.
    bool has_buffers() const noexcept { return ring_.has_waiting(); }
    /// Whether the driver should kick when it posts buffers; look at has_buffers() again after saying yes.
    void want_kicks(bool wanted) noexcept { ring_.want_kicks(wanted); }
    /// -1: the front-end gave none and the ring must be polled.
    int kick_descriptor() const { return ring_.kick_descriptor(); }
    /// Reads the kick eventfd; at most once a loop, however often the guest kicks.
    void drain_kick() noexcept { ring_.drain_kick(); }

    bool broken() const { return ring_.broken(); }
    const ReceiveCounters& counters() const { return counters_; }
    /// Position of the oldest chain that the driver has not got back: what GET_VRING_BASE answers.
    std::uint16_t used_index() const { return ring_.used(); }
    void set_events(RingEvents events) noexcept { ring_.set_events(events); }

    /// The ring as it stands, for a queue of another kind that goes on with it.
    const DeviceRing& ring() const { return ring_; }
    /// An answer to an earlier driver's marker (docs/vrx.md, 3.3) is none to this one.
    void clear_answer() noexcept { ring_.set_answer({}); }

private:
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
    DeviceRing ring_;
    bool mergeable_;
    ReceiveCounters& counters_;
    std::size_t descriptors_ = 0;    ///< read for one frame
    std::vector<Segment> segments_;  ///< of one frame; never grows past what the constructor reserved
    std::vector<Buffer> buffers_;    ///< likewise
};

}  // namespace vitrine::virtio
