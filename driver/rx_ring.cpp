#include "driver/rx_ring.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <string>

#include "driver/failure.hpp"

namespace vitrine::driver {

RxRing::RxRing(std::span<RxDescriptor> slots, Doorbell tail, mem::PagePool& pool)
    : slots_(slots),
      pages_(slots.size()),
      pool_(pool),
      tail_(tail),
      buffer_bytes_(packet_buffer_kib(pool.page_bytes()) * 1024) {
    assert(std::has_single_bit(slots.size()));
    std::ranges::fill(slots_, RxDescriptor{});  // nothing is done until it was armed
}

void RxRing::fill() {
    assert(!filled_);
    if (pool_.available() < mask())
        fail(ENOMEM, "fill the receive ring: " + std::to_string(mask()) + " packet pages needed, " +
                         std::to_string(pool_.available()) + " free");
    next_ = 0;
    last_hole_ = no_hole;
    for (std::uint32_t slot = 0; slot < mask(); ++slot) arm(slot);
    filled_ = true;
    tail_.ring(mask());
}

std::size_t RxRing::receive(std::span<Packet> out) noexcept {
    const std::size_t limit = std::min(out.size(), pool_.available());
    std::size_t count = 0;
    for (; count < limit; ++count) {
        const std::uint32_t slot = next_ & mask();
        const RxDone word = done(slot);
        if (!word.get(RxDone::done)) {
            note_hole();
            break;
        }
        const auto length_bytes = static_cast<std::uint32_t>(word.get(RxDone::length_bytes));
        const bool end_of_packet = word.get(RxDone::end_of_packet) != 0;
        const bool bad = length_bytes == 0 || length_bytes > buffer_bytes_;
        const bool mac_error = end_of_packet && word.get(RxDone::mac_error) != 0;
        counters_.bad_descriptors += bad;
        counters_.errors += mac_error;
        counters_.frames += end_of_packet;
        counters_.bytes += bad ? 0 : length_bytes;
        pool_.pass(pages_[slot], mem::Holder::nic, mem::Holder::device);
        out[count] = {.page = pages_[slot],
                      .length_bytes = static_cast<std::uint16_t>(bad ? 0 : length_bytes),
                      .end_of_packet = end_of_packet,
                      .error = bad || mac_error};
        if (end_of_packet) describe(out[count], word);
        arm((next_ + mask()) & mask());  // the spare slot just behind us
        ++next_;
    }
    if (count != 0)
        tail_.ring((next_ + mask()) & mask());
    else
        tail_.settle();
    counters_.pool_empty += count < out.size() && count == limit && done(next_ & mask()).get(RxDone::done) != 0;
    return count;
}

void RxRing::describe(Packet& packet, const RxDone& word) noexcept {
    constexpr std::uint16_t vlan_mask = 0x0fff;
    if (word.get(RxDone::vlan) != 0) packet.vlan = static_cast<std::uint16_t>(word.get(RxDone::vlan_tag)) & vlan_mask;
    if (word.get(RxDone::l4_checked) != 0)
        packet.l4_checksum = word.get(RxDone::l4_error) != 0 ? Checksum::bad : Checksum::good;
}

/// The slot behind a gap is finished and the gap still is not, looked at in this order: the NIC did not write in ring
/// order. Once for each gap.
void RxRing::note_hole() noexcept {
    if (next_ == last_hole_ || !done((next_ + 1) & mask()).get(RxDone::done) || done(next_ & mask()).get(RxDone::done))
        return;
    last_hole_ = next_;
    ++counters_.out_of_order;
}

bool RxRing::backlog_at_least(std::size_t packets) const noexcept {
    if (packets == 0) return true;
    if (packets > mask()) return false;
    return done((next_ + static_cast<std::uint32_t>(packets) - 1) & mask()).get(RxDone::done) != 0;
}

std::size_t RxRing::release() noexcept {
    if (!filled_) return 0;
    std::size_t lost_frames = 0;
    for (std::uint32_t offset = 0; offset < mask(); ++offset) {
        const std::uint32_t slot = (next_ + offset) & mask();
        const RxDone word = done(slot);
        lost_frames += word.get(RxDone::done) != 0 && word.get(RxDone::end_of_packet) != 0;
        pool_.give(pages_[slot]);
    }
    std::ranges::fill(slots_, RxDescriptor{});
    filled_ = false;
    return lost_frames;
}

RxDone RxRing::done(std::uint32_t slot) const noexcept {
    // One load carries both DD and length; acquire keeps reads of the payload behind it.
    return RxDone{{std::atomic_ref(slots_[slot].done).load(std::memory_order_acquire)}};
}

void RxRing::arm(std::uint32_t slot) noexcept {
    const mem::PageId page = pool_.take(mem::Holder::nic);
    pages_[slot] = page;
    // Relaxed: the tail write behind publishes both. The word with DD must be clear before the NIC gets the slot.
    std::atomic_ref(slots_[slot].page_iova).store(pool_.iova(page).raw, std::memory_order_relaxed);
    std::atomic_ref(slots_[slot].done).store(0, std::memory_order_relaxed);
}

}  // namespace vitrine::driver
