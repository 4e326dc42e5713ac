#include "apps/vitrine/direct_path.hpp"

#include <span>

namespace vitrine::apps {

using virtio::OffsetQueue;

void DirectPath::attach(driver::BufferRing& nic, OffsetQueue& guest) {
    armed_.resize(nic.room() + 1);  // a power of two
    arms_ = finished_ = 0;
    count_ = 0;
    error_ = skipping_ = false;
    nic_ = &nic;
    guest_ = &guest;
}

void DirectPath::detach() noexcept {
    while (move() != 0) {
    }
    if (!guest_->broken()) guest_->roll_back();
    guest_->show();
    nic_ = nullptr;
}

std::size_t DirectPath::poll() noexcept {
    const std::size_t moved = move();
    guest_->publish();
    return moved + arm();
}

std::size_t DirectPath::move() noexcept {
    std::array<driver::Finished, burst> finished;
    const std::size_t count = nic_->receive(finished);
    for (const driver::Finished& one : std::span(finished).first(count)) {
        parts_[count_++] = {armed_[finished_++ & (armed_.size() - 1)], one.length_bytes};
        error_ |= one.error;
        counters_.bytes_from_nic += one.length_bytes;
        if (one.end_of_packet)
            finish_frame();
        else if (skipping_ || count_ == guest_->most_buffers())  // nothing more of it can come into this ring
            fail_frame(counters_.drop_too_small);
    }
    return count;
}

void DirectPath::finish_frame() noexcept {
    if (skipping_ || error_ || guest_->broken()) {
        fail_frame(error_ ? counters_.drop_nic_error : counters_.drop_ring_broken);
        skipping_ = error_ = false;
        return;
    }
    guest_->give_back(std::span(parts_).first(count_), {});
    ++counters_.frames_from_nic;
    ++counters_.direct;
    count_ = 0;
}

/// Counted once, whatever comes of it still.
void DirectPath::fail_frame(std::uint64_t& reason) noexcept {
    if (!skipping_) {
        ++counters_.frames_from_nic;
        ++reason;
    }
    skipping_ = true;
    if (!guest_->broken())
        for (const OffsetQueue::Filled& part : std::span(parts_).first(count_))
            guest_->give_back(std::array{OffsetQueue::Filled{part.buffer, 0}}, {});
    count_ = 0;
}

std::size_t DirectPath::arm() noexcept {
    constexpr std::size_t most_at_once = 4 * burst;
    std::size_t count = 0;
    for (; count < most_at_once && nic_->room() != 0; ++count) {
        const OffsetQueue::Buffer buffer = guest_->take();
        if (buffer.data == nullptr) break;
        armed_[arms_++ & (armed_.size() - 1)] = buffer;
        nic_->arm(buffer.iova);
    }
    nic_->flush();
    return count;
}

}  // namespace vitrine::apps
