#include "apps/vitrine/transmit_path.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstring>

namespace vitrine::apps {
namespace {

/// Broadcast too. The guest may change the byte at once: it decides on a copy, and on nothing else.
bool is_multicast(const std::byte& first_byte) noexcept {
    return (std::atomic_ref(const_cast<std::byte&>(first_byte)).load(std::memory_order_relaxed) & std::byte{1}) !=
           std::byte{0};
}

}  // namespace

std::size_t TransmitPath::poll() noexcept {
    std::size_t work = nic_ != nullptr ? reclaim() : 0;
    virtio::TransmitQueue* guest = device_.transmit(pair_);
    if (guest == nullptr) return work;
    work += nic_ != nullptr ? send_burst(*guest) : discard_burst(*guest);
    // Refused frames are work too: they go back to the guest even if no good one follows, and more may wait.
    if (guest->publish()) ++work;
    return work;
}

std::size_t TransmitPath::send_burst(virtio::TransmitQueue& guest) noexcept {
    // A frame takes up to its fragments and a context; a bounce page must be there in case it is copied.
    constexpr std::size_t room_for_any = driver::most_tx_fragments + 1;
    std::size_t count = 0;
    for (; count < burst && nic_->room() >= room_for_any && bounce_.available() > 0; ++count) {
        const auto frame = guest.next();
        if (!frame) break;
        if (!guest_dma_ || !send_in_place(*frame)) send_copy(*frame);
        ++counters_.frames_to_nic;
        counters_.bytes_to_nic += frame->length_bytes;
        if (!guest_dma_) guest.complete_oldest(1);
    }
    nic_->flush();
    return count;
}

bool TransmitPath::send_in_place(const virtio::TransmitQueue::Frame& frame) noexcept {
    if (is_multicast(*frame.pieces.front().host)) return false;
    if (frame.length_bytes < least_zero_copy_bytes || frame.pieces.size() > driver::most_tx_fragments) return false;
    std::array<driver::Fragment, driver::most_tx_fragments> fragments;
    for (std::size_t i = 0; i < frame.pieces.size(); ++i) {
        if (frame.pieces[i].iova.raw == 0) return false;
        fragments[i] = {frame.pieces[i].iova, frame.pieces[i].length_bytes};
    }
    if (nic_->send(std::span(fragments).first(frame.pieces.size()), no_page) != driver::Sent::queued) return false;
    ++counters_.zero_copy;
    return true;
}

void TransmitPath::send_copy(const virtio::TransmitQueue::Frame& frame) noexcept {
    const mem::PageId page = bounce_.take(mem::Holder::nic);
    const std::span<std::byte> bytes = bounce_.bytes(page);
    assert(frame.length_bytes <= bytes.size());  // the device refuses frames beyond its MTU
    std::size_t length_bytes = 0;
    for (const virtio::TransmitQueue::Piece& piece : frame.pieces) {
        std::memcpy(bytes.data() + length_bytes, piece.host, piece.length_bytes);
        length_bytes += piece.length_bytes;
    }
    if (is_multicast(bytes.front())) hear_groups(bytes.first(length_bytes));
    if (length_bytes < driver::least_tx_frame_bytes) {  // the NIC pads from there on
        std::memset(bytes.data() + length_bytes, 0, driver::least_tx_frame_bytes - length_bytes);
        length_bytes = driver::least_tx_frame_bytes;
    }
    const driver::Fragment fragment{bounce_.iova(page), static_cast<std::uint32_t>(length_bytes)};
    [[maybe_unused]] const driver::Sent sent = nic_->send({&fragment, 1}, mem::index_of(page));
    assert(sent == driver::Sent::queued);  // room, length and address were checked
    ++counters_.copied;
    ++pages_in_nic_;
}

void TransmitPath::hear_groups(std::span<const std::byte> frame) noexcept {
    std::array<GroupAddress, 32> groups;
    joined_groups_.push(std::span(groups).first(joined_groups(frame, groups)));
}

std::size_t TransmitPath::discard_burst(virtio::TransmitQueue& guest) noexcept {
    std::size_t count = 0;
    for (; count < burst && guest.next(); ++count) {
        guest.complete_oldest(1);
        ++counters_.drop_link_down;
    }
    return count;
}

std::size_t TransmitPath::reclaim() noexcept {
    std::array<std::uint64_t, 2 * burst> cookies;
    const std::size_t count = nic_->reclaim(cookies);
    for (const std::uint64_t cookie : std::span(cookies).first(count)) release(cookie);
    complete(count);
    return count;
}

/// Chains that the NIC held by zero copy; by copy they were complete at once. Seen by the guest with the next publish.
void TransmitPath::complete(std::size_t frames) noexcept {
    virtio::TransmitQueue* guest = device_.transmit(pair_);
    if (guest_dma_ && guest != nullptr) guest->complete_oldest(std::min(frames, guest->in_flight()));
}

void TransmitPath::release(std::uint64_t cookie) noexcept {
    if (cookie == no_page) return;
    bounce_.give(mem::PageId{static_cast<std::uint32_t>(cookie)});
    --pages_in_nic_;
}

void TransmitPath::detach() noexcept {
    if (nic_ == nullptr) return;
    while (reclaim() != 0) {
    }
    const std::size_t held = reset_ring();
    counters_.lost_in_nic += held;
    complete(held);
    if (virtio::TransmitQueue* guest = device_.transmit(pair_)) guest->show();
    nic_ = nullptr;
}

void TransmitPath::roll_back() noexcept {
    while (reclaim() != 0) {  // what the NIC did send is done, and not sent again
    }
    counters_.repeated += reset_ring();
    if (virtio::TransmitQueue* guest = device_.transmit(pair_)) {
        guest->roll_back();
        guest->show();
    }
}

std::size_t TransmitPath::reset_ring() noexcept {
    std::size_t held = 0;
    nic_->reset([&](std::uint64_t cookie) {
        release(cookie);
        ++held;
    });
    return held;
}

}  // namespace vitrine::apps
