#include "driver/rx_ring.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string>

#include "driver/failure.hpp"

namespace vitrine::driver {

RxRing::RxRing(std::span<RxDescriptor> slots, Doorbell tail, mem::PagePool& pool)
    : RxSlots(slots, tail, packet_buffer_kib(pool.page_bytes()) * 1024), pages_(slots.size()), pool_(pool) {}

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
        if (!finished(out[count])) break;
        const mem::PageId page = pages_[next_ & mask()];
        pool_.pass(page, mem::Holder::nic, mem::Holder::device);
        out[count].page = page;
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

void RxRing::arm(std::uint32_t slot) noexcept {
    const mem::PageId page = pool_.take(mem::Holder::nic);
    pages_[slot] = page;
    RxSlots::arm(slot, pool_.iova(page));
}

}  // namespace vitrine::driver
