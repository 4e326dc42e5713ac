#include "apps/vitrine/receive_path.hpp"

#include <algorithm>

namespace vitrine::apps {

std::size_t ReceivePath::poll() noexcept {
    if (direct_.attached()) return direct_.poll();
    const std::size_t moved = move();
    // Also what was shown while this thread stood still: it may be owed a call.
    virtio::ReceiveRing* const guest = guest_queue();
    if (guest == nullptr) return moved;
    guest->publish();
    return moved != 0 ? moved : guest->absorb();
}

std::size_t ReceivePath::move() noexcept {
    // Without a VF or a link nothing comes, but a guest still wants an answer to its marker, and gives pages back.
    const std::size_t fresh = nic_ != nullptr ? nic_->receive(std::span(packets_).subspan(count_)) : 0;
    count_ += fresh;
    if (skipping_ || (count_ == burst && frame_at(0) == 0)) skip_endless();

    virtio::ReceiveRing* guest = guest_queue();
    lends_ = guest != nullptr && guest->lends();
    if (guest != nullptr) guest->prefetch(count_);
    std::size_t done = 0;
    while (const std::size_t packets = frame_at(done)) {
        if (!hand_over(guest, std::span(packets_).subspan(done, packets))) break;
        done += packets;
    }
    if (done != 0) {
        std::copy(packets_.begin() + static_cast<std::ptrdiff_t>(done),
                  packets_.begin() + static_cast<std::ptrdiff_t>(count_), packets_.begin());
        count_ -= done;
    }
    return fresh + done;
}

virtio::ReceiveRing* ReceivePath::guest_queue() const noexcept {
    virtio::ReceiveRing* own = device_.receive(pair_);
    return own != nullptr ? own : device_.receive(0);
}

/// How many packets the frame at `first` has; 0 while its end has not come.
std::size_t ReceivePath::frame_at(std::size_t first) const noexcept {
    const std::size_t end = std::min(count_, first + most_packets_of_frame);
    for (std::size_t i = first; i < end; ++i)
        if (packets_[i].end_of_packet) return i - first + 1;
    return 0;
}

/// False when the frame must wait for guest buffers.
bool ReceivePath::hand_over(virtio::ReceiveRing* guest, std::span<const driver::Packet> frame) noexcept {
    std::size_t length_bytes = 0;
    bool error = false;
    for (const driver::Packet& packet : frame) {
        error |= packet.error;
        length_bytes += packet.length_bytes;
    }
    offset_ = 0;
    length_bytes_ = length_bytes;
    std::uint64_t ReceivePathCounters::* consumed = nullptr;
    if (tunnel_ != nullptr && !error) {
        const Tunnel::Arrival arrival = tunnel_->arrive(pool_, frame, length_bytes);
        consumed = arrival.consumed;
        offset_ = arrival.offset;
        length_bytes_ = arrival.length_bytes;
    }
    if (error) {
        drop(frame, counters_.drop_nic_error);
    } else if (consumed != nullptr) {
        drop(frame, counters_.*consumed);
    } else if (guest == nullptr) {
        drop(frame, counters_.drop_no_guest);
    } else {
        switch (lends_ ? lend(*guest, frame) : copy(*guest, frame)) {
            case virtio::Delivery::delivered:
                break;
            case virtio::Delivery::no_buffer:
                if (!nic_->backlog_at_least(half_full_)) return false;
                drop(frame, counters_.drop_no_buffer);
                break;
            case virtio::Delivery::held:
                if (!nic_->backlog_at_least(half_full_)) return false;
                drop(frame, counters_.drop_held);
                break;
            case virtio::Delivery::dropped:
                drop(frame, counters_.drop_too_small);
                break;
            case virtio::Delivery::broken:
                drop(frame, counters_.drop_ring_broken);
                break;
        }
    }
    counters_.bytes_from_nic += length_bytes;
    return true;
}

/// Calls `piece` with packet, offset and length for each packet that holds bytes of the guest's. Returns how many.
template <class Piece>
std::size_t ReceivePath::for_each_piece(std::span<const driver::Packet> frame, Piece piece) const noexcept {
    std::size_t offset = offset_, left = length_bytes_, count = 0;
    for (; count < frame.size() && left != 0; ++count, offset = 0) {
        const std::size_t bytes = std::min(frame[count].length_bytes - offset, left);
        piece(count, offset, bytes);
        left -= bytes;
    }
    return count;
}

virtio::Delivery ReceivePath::copy(virtio::ReceiveRing& guest, std::span<const driver::Packet> frame) noexcept {
    const std::size_t count = for_each_piece(frame, [&](std::size_t i, std::size_t offset, std::size_t bytes) {
        pieces_[i] = pool_.bytes(frame[i].page).subspan(offset, bytes);
    });
    const virtio::Delivery outcome = guest.deliver(std::span(pieces_).first(count), {});
    if (outcome == virtio::Delivery::delivered) {
        ++counters_.copied;
        finish(frame);
    }
    return outcome;
}

/// The pages themselves: they come back by the ring, not by finish(). Those behind the end of an inner frame stay.
virtio::Delivery ReceivePath::lend(virtio::ReceiveRing& guest, std::span<const driver::Packet> frame) noexcept {
    const std::size_t count = for_each_piece(frame, [&](std::size_t i, std::size_t offset, std::size_t bytes) {
        lent_[i] = {.page = frame[i].page,
                    .offset = static_cast<std::uint32_t>(offset),
                    .length_bytes = static_cast<std::uint32_t>(bytes)};
    });
    const virtio::Delivery outcome = guest.lend(std::span(lent_).first(count), {});
    if (outcome == virtio::Delivery::delivered) {
        for (const driver::Packet& packet : frame.subspan(count)) pool_.give(packet.page);
        ++counters_.lent;
        ++counters_.frames_from_nic;
    }
    return outcome;
}

void ReceivePath::finish(std::span<const driver::Packet> frame) noexcept {
    ++counters_.frames_from_nic;
    for (const driver::Packet& packet : frame) pool_.give(packet.page);
}

void ReceivePath::drop(std::span<const driver::Packet> frame, std::uint64_t& reason) noexcept {
    ++reason;
    finish(frame);
}

/// A NIC that never ends a frame must not fill the burst for ever.
void ReceivePath::skip_endless() noexcept {
    const auto end = std::find_if(packets_.begin(), packets_.begin() + static_cast<std::ptrdiff_t>(count_),
                                  [](const driver::Packet& packet) { return packet.end_of_packet; });
    const bool ended = end != packets_.begin() + static_cast<std::ptrdiff_t>(count_);
    const auto rest = ended ? end + 1 : end;
    if (!skipping_) {
        ++counters_.frames_from_nic;
        ++counters_.drop_nic_error;
    }
    for (auto packet = packets_.begin(); packet != rest; ++packet) pool_.give(packet->page);
    std::copy(rest, packets_.begin() + static_cast<std::ptrdiff_t>(count_), packets_.begin());
    count_ -= static_cast<std::size_t>(rest - packets_.begin());
    skipping_ = !ended;
}

void ReceivePath::detach(std::size_t lost_in_ring) noexcept {
    for (std::size_t first = 0; first < count_;) {
        const std::size_t whole = frame_at(first);
        const std::size_t packets = whole != 0 ? whole : count_ - first;  // the last one's end did not come
        drop(std::span(packets_).subspan(first, packets), counters_.drop_vf_down);
        first += packets;
    }
    counters_.frames_from_nic += lost_in_ring;
    counters_.drop_vf_down += lost_in_ring;
    count_ = 0;
    skipping_ = false;
    nic_ = nullptr;
}

}  // namespace vitrine::apps
