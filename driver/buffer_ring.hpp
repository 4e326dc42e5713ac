#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/rx_slots.hpp"

namespace vitrine::driver {

/// A receive queue whose buffers are somebody else's: each is armed on its own, and the NIC finishes them in that
/// order. Who armed it knows what the n-th buffer is. The queue holds as many as there are, perhaps none: frames that
/// come then are the NIC's to drop.
///
/// Poll thread only; made while it stands still and the queue was enabled anew (heads at 0).
class BufferRing : public RxSlots {
public:
    BufferRing(std::span<RxDescriptor> slots, Doorbell tail, std::uint32_t buffer_bytes)
        : RxSlots(slots, tail, buffer_bytes) {}

    /// Buffers that the NIC holds.
    std::size_t armed() const noexcept { return end_ - next_; }
    /// How many more it can take: one slot stays free, since tail == head means none.
    std::size_t room() const noexcept { return mask() - armed(); }

    /// Gives the NIC a buffer of as many bytes as the queue was set up for, if there is room. It sees it with flush().
    void arm(mem::Iova buffer) noexcept {
        assert(room() > 0 && buffer.raw != 0);
        RxSlots::arm(end_++ & mask(), buffer);
    }
    /// One tail write for all that was armed.
    void flush() noexcept {
        if (end_ == shown_) return tail_.settle();
        shown_ = end_;
        tail_.ring(end_ & mask());
    }

    /// Moves what the NIC says of finished buffers into `out`, oldest first. Never more than were armed.
    std::size_t receive(std::span<Finished> out) noexcept {
        std::size_t count = 0;
        for (; count < out.size() && next_ != shown_; ++count) {
            if (!finished(out[count])) break;
            clear(next_++ & mask());  // a slot that is not armed must not look finished
        }
        return count;
    }

private:
    std::uint32_t end_ = 0;    ///< of what is armed, counted as position()
    std::uint32_t shown_ = 0;  ///< of what the NIC was told of
};

}  // namespace vitrine::driver
