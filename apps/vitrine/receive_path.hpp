#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "apps/vitrine/counters.hpp"
#include "apps/vitrine/direct_path.hpp"
#include "apps/vitrine/tunnel.hpp"
#include "driver/rx_ring.hpp"
#include "mem/page_pool.hpp"
#include "virtio/device.hpp"

namespace vitrine::apps {

/// One pair's way in: NIC descriptor, packet page, copy into the guest's buffers or the page itself, used element.
///
/// Frames that the guest has no buffer for wait, first here and then in the NIC's ring, until that is half full; only
/// then are they dropped. Poll thread; attach() and detach() while it stands still.
class ReceivePath {
public:
    /// With a `tunnel` the guest gets what is inside: the same pages, with a larger offset.
    ReceivePath(mem::PagePool& pool, virtio::Device& device, unsigned pair, ReceivePathCounters& counters,
                Tunnel* tunnel = nullptr)
        : pool_(pool), device_(device), pair_(pair), counters_(counters), tunnel_(tunnel), direct_(counters) {}

    void attach(driver::RxRing& nic, std::size_t slots) {
        nic_ = &nic;
        half_full_ = slots / 2;
    }
    /// The VF goes: frames that wait here are dropped, and `lost_in_ring` that waited in the ring are counted.
    void detach(std::size_t lost_in_ring) noexcept;

    /// The NIC's queue was started with the buffers of the guest's ring, which is one of OFFSET, and stopped. The ring
    /// runs until then.
    void attach_direct(driver::BufferRing& nic) { direct_.attach(nic, *device_.receive(pair_)->offset()); }
    void detach_direct() noexcept { direct_.detach(); }
    bool is_direct() const { return direct_.attached(); }

    /// Moves one burst. Returns 0 when there was nothing to do.
    std::size_t poll() noexcept;
    /// The same from packet pages, without telling the guest, who sees it with the ring's next show() or publish().
    std::size_t move() noexcept;

    bool settled() const { return (nic_ == nullptr || nic_->settled()) && direct_.settled(); }
    /// Pages with the NIC, for the audit.
    std::size_t pages_in_nic() const { return nic_ != nullptr ? nic_->armed() : 0; }
    /// Packets that wait for guest buffers. One page each.
    std::size_t waiting() const { return count_; }
    /// A kick should end a sleep.
    bool wants_buffers() const { return count_ != 0 || direct_.wants_buffers(); }
    /// Where frames go: to the pair's own queue, or to the first one while the guest runs fewer pairs than it was
    /// offered (VIRTIO 1.3, 5.1.6.5.5: it begins with one). Null: to none.
    virtio::ReceiveRing* guest_queue() const noexcept;

private:
    static constexpr std::size_t burst = 64;
    static constexpr std::size_t most_packets_of_frame = 16;  ///< 9.5 KiB in the smallest buffers of 1 KiB, and some

    std::size_t frame_at(std::size_t first) const noexcept;
    bool hand_over(virtio::ReceiveRing* guest, std::span<const driver::Packet> frame) noexcept;
    virtio::Delivery copy(virtio::ReceiveRing& guest, std::span<const driver::Packet> frame) noexcept;
    virtio::Delivery lend(virtio::ReceiveRing& guest, std::span<const driver::Packet> frame) noexcept;
    template <class Piece>
    std::size_t for_each_piece(std::span<const driver::Packet> frame, Piece piece) const noexcept;
    void drop(std::span<const driver::Packet> frame, std::uint64_t& reason) noexcept;
    void finish(std::span<const driver::Packet> frame) noexcept;
    void skip_endless() noexcept;

    mem::PagePool& pool_;
    virtio::Device& device_;
    unsigned pair_;
    ReceivePathCounters& counters_;
    Tunnel* tunnel_;
    driver::RxRing* nic_ = nullptr;
    std::size_t half_full_ = 0;
    std::array<driver::Packet, burst> packets_;
    std::size_t count_ = 0;
    // Of one frame; here, not zeroed for each.
    std::array<std::span<const std::byte>, most_packets_of_frame> pieces_;
    std::array<virtio::PagesKinds::Piece, most_packets_of_frame> lent_;
    std::size_t offset_ = 0, length_bytes_ = 0;  ///< of what is the guest's
    bool lends_ = false;                         ///< in this turn, pages to the guest's ring
    bool skipping_ = false;                      ///< inside a frame without end: drop until its end of packet
    DirectPath direct_;                          ///< in place of all this, while it is attached
};

}  // namespace vitrine::apps
