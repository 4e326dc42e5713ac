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

/// Copied once into `to`, as the guest may change them at any time.
std::span<const std::byte> first_bytes(const virtio::TransmitRing::Frame& frame, std::span<std::byte> to) noexcept {
    std::size_t filled = 0;
    for (const virtio::TransmitRing::Piece& piece : frame.pieces) {
        const std::size_t bytes = std::min<std::size_t>(piece.length_bytes, to.size() - filled);
        std::memcpy(&to[filled], piece.host, bytes);
        filled += bytes;
        if (filled == to.size()) break;
    }
    return to.first(filled);
}

}  // namespace

std::size_t TransmitPath::poll() noexcept {
    std::size_t work = nic_ != nullptr ? reclaim() + send_own() : 0;
    virtio::TransmitRing* guest = device_.transmit(pair_);
    if (guest == nullptr) return work;
    work += nic_ != nullptr ? send_burst(*guest) : discard_burst(*guest, counters_.drop_link_down);
    // Refused frames are work too: they go back to the guest even if no good one follows, and more may wait.
    if (guest->publish()) ++work;
    return work;
}

std::size_t TransmitPath::send_burst(virtio::TransmitRing& guest) noexcept {
    // A frame takes up to its fragments and a context; a bounce page must be there in case it is copied.
    constexpr std::size_t room_for_any = driver::most_tx_fragments + 1;
    header_bytes_ = tunnel_ != nullptr ? tunnel_->outer_bytes() : 0;
    if (header_bytes_ != 0) {
        const std::optional<MacAddress> next_hop = tunnel_->next_hop();
        if (!next_hop) {
            nic_->flush();
            // Chains complete in order: what the NIC has comes first.
            const bool wait = tunnel_->next_hop_is_near() || guest.in_flight() != 0;
            return wait ? 0 : discard_burst(guest, counters_.drop_unresolved);
        }
        next_hop_ = *next_hop;
    }
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

/// Frames of ours, from the tunnel's small host.
std::size_t TransmitPath::send_own() noexcept {
    constexpr std::size_t fragment_and_context = 2;
    std::size_t count = 0;
    for (; tunnel_ != nullptr && nic_->room() >= fragment_and_context && bounce_.available() > 0; ++count) {
        const NeighbourFrame* const frame = tunnel_->outgoing();
        if (frame == nullptr) break;
        const mem::PageId page = bounce_.take(mem::Holder::nic);
        std::memcpy(bounce_.bytes(page).data(), frame->bytes.data(), frame->length_bytes);
        const driver::Fragment fragment{bounce_.iova(page), static_cast<std::uint32_t>(frame->length_bytes)};
        [[maybe_unused]] const driver::Sent sent = nic_->send({&fragment, 1}, mem::index_of(page) | own_frame);
        assert(sent == driver::Sent::queued);
        tunnel_->sent();
        ++pages_in_nic_;
        ++counters_.own_frames;
    }
    if (count != 0) nic_->flush();
    return count;
}

bool TransmitPath::must_be_copied(const virtio::TransmitRing::Frame& frame) const noexcept {
    // What goes into a tunnel joins no group outside it.
    if (header_bytes_ == 0 && is_multicast(*frame.pieces.front().host)) return true;
    const std::size_t fragments = frame.pieces.size() + (header_bytes_ != 0 ? 1 : 0);
    return frame.length_bytes < least_zero_copy_bytes || fragments > driver::most_tx_fragments ||
           std::ranges::any_of(frame.pieces, [](const auto& piece) { return piece.iova.raw == 0; });
}

bool TransmitPath::send_in_place(const virtio::TransmitRing::Frame& frame) noexcept {
    if (must_be_copied(frame)) return false;
    std::array<driver::Fragment, driver::most_tx_fragments> fragments;
    std::size_t count = 0;
    std::uint64_t cookie = no_page;
    if (header_bytes_ != 0) {
        std::array<std::byte, flow_header_bytes> inner_headers;
        const mem::PageId page = bounce_.take(mem::Holder::nic);
        tunnel_->write_outer(bounce_.bytes(page).data(), next_hop_, first_bytes(frame, inner_headers),
                             frame.length_bytes);
        fragments[count++] = {bounce_.iova(page), static_cast<std::uint32_t>(header_bytes_)};
        cookie = mem::index_of(page);
    }
    for (const virtio::TransmitRing::Piece& piece : frame.pieces) fragments[count++] = {piece.iova, piece.length_bytes};
    if (nic_->send(std::span(fragments).first(count), cookie) != driver::Sent::queued) {
        if (cookie != no_page) bounce_.give(mem::PageId{static_cast<std::uint32_t>(cookie)});
        return false;
    }
    pages_in_nic_ += cookie != no_page;
    ++counters_.zero_copy;
    return true;
}

void TransmitPath::send_copy(const virtio::TransmitRing::Frame& frame) noexcept {
    const mem::PageId page = bounce_.take(mem::Holder::nic);
    const std::span<std::byte> bytes = bounce_.bytes(page);
    assert(header_bytes_ + frame.length_bytes <= bytes.size());  // the device refuses frames beyond its MTU
    std::size_t length_bytes = header_bytes_;
    for (const virtio::TransmitRing::Piece& piece : frame.pieces) {
        std::memcpy(bytes.data() + length_bytes, piece.host, piece.length_bytes);
        length_bytes += piece.length_bytes;
    }
    const std::span<const std::byte> inner = bytes.subspan(header_bytes_, frame.length_bytes);
    if (header_bytes_ != 0)
        tunnel_->write_outer(bytes.data(), next_hop_, inner.first(std::min(inner.size(), flow_header_bytes)),
                             inner.size());
    else if (is_multicast(inner.front()))
        hear_groups(inner);
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

std::size_t TransmitPath::discard_burst(virtio::TransmitRing& guest, std::uint64_t& reason) noexcept {
    std::size_t count = 0;
    for (; count < burst && guest.next(); ++count) {
        guest.complete_oldest(1);
        ++reason;
    }
    return count;
}

std::size_t TransmitPath::reclaim() noexcept {
    std::array<std::uint64_t, 2 * burst> cookies;
    const std::size_t count = nic_->reclaim(cookies);
    std::size_t of_guest = 0;
    for (const std::uint64_t cookie : std::span(cookies).first(count)) of_guest += release(cookie);
    complete(of_guest);
    return count;
}

/// Chains that the NIC held by zero copy; by copy they were complete at once. Seen by the guest with the next publish.
void TransmitPath::complete(std::size_t frames) noexcept {
    virtio::TransmitRing* guest = device_.transmit(pair_);
    if (guest_dma_ && guest != nullptr) guest->complete_oldest(std::min(frames, guest->in_flight()));
}

/// True if the frame was the guest's.
bool TransmitPath::release(std::uint64_t cookie) noexcept {
    if (cookie == no_page) return true;
    bounce_.give(mem::PageId{static_cast<std::uint32_t>(cookie)});
    --pages_in_nic_;
    return (cookie & own_frame) == 0;
}

void TransmitPath::detach() noexcept {
    if (nic_ == nullptr) return;
    while (reclaim() != 0) {
    }
    const std::size_t held = reset_ring();
    counters_.lost_in_nic += held;
    complete(held);
    if (virtio::TransmitRing* guest = device_.transmit(pair_)) guest->show();
    nic_ = nullptr;
}

void TransmitPath::roll_back() noexcept {
    while (reclaim() != 0) {  // what the NIC did send is done, and not sent again
    }
    counters_.repeated += reset_ring();
    if (virtio::TransmitRing* guest = device_.transmit(pair_)) {
        guest->roll_back();
        guest->show();
    }
}

std::size_t TransmitPath::reset_ring() noexcept {
    std::size_t held = 0;
    nic_->reset([&](std::uint64_t cookie) { held += release(cookie); });
    return held;
}

}  // namespace vitrine::apps
