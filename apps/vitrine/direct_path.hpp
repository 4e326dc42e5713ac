#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "apps/vitrine/counters.hpp"
#include "driver/buffer_ring.hpp"
#include "virtio/offset_queue.hpp"

namespace vitrine::apps {

/// One pair's way in while the NIC writes into the guest's own buffers: each NIC slot holds the next buffer of the
/// guest's ring, so both rings are finished in the same order. No byte of a frame is read or written here; the CPU adds
/// the header. A buffer whose frame failed goes back with a header alone, since its place in the order is taken.
///
/// Poll thread; attach() and detach() while it stands still.
class DirectPath {
public:
    explicit DirectPath(ReceivePathCounters& counters) : counters_(counters) {}

    /// `nic` is empty, and its queue on. Both live until detach().
    void attach(driver::BufferRing& nic, virtio::OffsetQueue& guest);
    bool attached() const { return nic_ != nullptr; }
    /// The NIC's queue is off. The guest sees what it finished; the buffers that it did not fill are the ring's again.
    void detach() noexcept;

    /// Moves one burst, and arms what the guest posted. Returns 0 when there was nothing to do.
    std::size_t poll() noexcept;

    /// More of the guest's buffers would be welcome.
    bool wants_buffers() const { return nic_ != nullptr && nic_->room() != 0; }
    bool settled() const { return nic_ == nullptr || nic_->settled(); }

private:
    static constexpr std::size_t burst = 64;

    std::size_t move() noexcept;
    std::size_t arm() noexcept;
    void finish_frame() noexcept;
    void fail_frame(std::uint64_t& reason) noexcept;

    ReceivePathCounters& counters_;
    driver::BufferRing* nic_ = nullptr;
    virtio::OffsetQueue* guest_ = nullptr;
    std::vector<virtio::OffsetQueue::Buffer> armed_;  ///< by order of arming, modulo its size
    std::uint32_t arms_ = 0;
    std::uint32_t finished_ = 0;
    /// The frame that is being received.
    std::array<virtio::OffsetQueue::Filled, virtio::OffsetQueue::most_buffers_of_any_frame> parts_;
    std::size_t count_ = 0;
    bool error_ = false;
    bool skipping_ = false;  ///< inside a frame that failed: its buffers go back empty until its end
};

}  // namespace vitrine::apps
