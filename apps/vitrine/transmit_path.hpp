#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/frame/joined_groups.hpp"
#include "apps/vitrine/counters.hpp"
#include "apps/vitrine/tunnel.hpp"
#include "driver/tx_ring.hpp"
#include "mem/handover.hpp"
#include "mem/page_pool.hpp"
#include "virtio/device.hpp"

namespace vitrine::apps {

/// One pair's way out: guest chain, checks, NIC descriptors that point into a bounce page of ours or, with
/// --guest-dma=on, straight into guest memory.
///
/// By copy a chain is done as soon as it is copied. By zero copy it is done when the NIC says so, in ring order; small
/// frames and multicast (in which the guest may report its groups) are copied there too, but keep their place.
/// Poll thread; attach(), detach() and roll_back() while it stands still.
class TransmitPath {
public:
    /// With a `tunnel` its headers stand in front of each frame: in the bounce page that the frame is copied into, or
    /// in one of their own, as one descriptor more.
    TransmitPath(mem::PagePool& bounce, virtio::Device& device, unsigned pair, bool guest_dma,
                 TransmitPathCounters& counters, Tunnel* tunnel = nullptr)
        : bounce_(bounce), device_(device), pair_(pair), guest_dma_(guest_dma), counters_(counters), tunnel_(tunnel) {}

    void attach(driver::TxRing& nic) { nic_ = &nic; }
    /// The VF goes, its queue is disabled: what it still held is completed as dropped.
    void detach() noexcept;

    /// Moves one burst. Returns 0 when there was nothing to do.
    std::size_t poll() noexcept;

    /// Takes back what the NIC has finished; the guest hears of it when its ring is next published. Returns how many
    /// frames.
    std::size_t reclaim() noexcept;
    /// Frames that the NIC has not finished, or has not been told of because its socket was full.
    bool in_nic() const { return nic_ != nullptr && (nic_->in_flight() != 0 || !nic_->settled()); }
    /// Bounce pages with the NIC, for the audit.
    std::size_t pages_in_nic() const { return pages_in_nic_; }
    /// True while the NIC may read guest memory: the ring must not stop.
    bool holds_guest_memory() const { return guest_dma_ && nic_ != nullptr && nic_->in_flight() != 0; }
    /// The guest's ring stops with frames in flight and the NIC's queue was reset: the guest may see them sent again.
    void roll_back() noexcept;
    /// Control thread: the next multicast group that the guest reported, if there is one.
    bool pop_joined_group(GroupAddress& group) noexcept { return joined_groups_.pop_one(group); }

private:
    static constexpr std::size_t burst = 32;
    static constexpr std::uint32_t least_zero_copy_bytes = 256;  ///< below, a copy is cheaper than descriptors
    // Cookies: the bounce page of a frame, or that it has none; and whether it is one of ours, not of the guest.
    static constexpr std::uint64_t no_page = ~std::uint64_t{0};
    static constexpr std::uint64_t own_frame = std::uint64_t{1} << 32;

    std::size_t send_burst(virtio::TransmitRing& guest) noexcept;
    std::size_t send_own() noexcept;
    std::size_t discard_burst(virtio::TransmitRing& guest, std::uint64_t& reason) noexcept;
    bool must_be_copied(const virtio::TransmitRing::Frame& frame) const noexcept;
    bool send_in_place(const virtio::TransmitRing::Frame& frame) noexcept;
    void send_copy(const virtio::TransmitRing::Frame& frame) noexcept;
    void hear_groups(std::span<const std::byte> frame) noexcept;
    void complete(std::size_t frames) noexcept;
    bool release(std::uint64_t cookie) noexcept;
    std::size_t reset_ring() noexcept;

    mem::PagePool& bounce_;
    virtio::Device& device_;
    unsigned pair_;
    bool guest_dma_;
    TransmitPathCounters& counters_;
    Tunnel* tunnel_;
    MacAddress next_hop_{};         ///< of this burst
    std::size_t header_bytes_ = 0;  ///< in front of each frame of this burst
    driver::TxRing* nic_ = nullptr;
    std::size_t pages_in_nic_ = 0;
    mem::Channel<GroupAddress, 64> joined_groups_;  // a full one loses reports, which hosts repeat
};

}  // namespace vitrine::apps
