#include "virtio/receive_queue.hpp"

#include <algorithm>
#include <cstring>

namespace vitrine::virtio {

using Walk = RingBase::Walk;

namespace {

/// Pieces of guest memory that one frame may fill, and descriptors that it may take: enough for 9018 bytes in buffers
/// of 12.
constexpr std::size_t most_segments = 1024;

}  // namespace

template <class Ring>
BasicReceiveQueue<Ring>::BasicReceiveQueue(const GuestMemory& memory, Ring ring, bool mergeable,
                                           ReceiveCounters& counters)
    : RingQueue<Ring>(std::move(ring)), memory_(memory), mergeable_(mergeable), counters_(counters) {
    segments_.reserve(most_segments);
    buffers_.reserve(ring_.entries());
}

template <class Ring>
Delivery BasicReceiveQueue<Ring>::deliver(std::span<const std::span<const std::byte>> pieces,
                                          NetHeader header) noexcept {
    std::size_t frame_bytes = 0;
    for (const auto& piece : pieces) frame_bytes += piece.size();
    if (deliver_whole(pieces, header, sizeof(NetHeader) + frame_bytes)) {
        ++counters_.frames;
        counters_.bytes += frame_bytes;
        ++counters_.elements;
        return Outcome::delivered;
    }

    const Outcome outcome = gather(sizeof(NetHeader) + frame_bytes);
    switch (outcome) {
        case Outcome::delivered:
            break;
        case Outcome::no_buffer:
        case Outcome::held:  // only where pages are lent
            ++counters_.rx_no_buffer_tries;
            return outcome;
        case Outcome::dropped:
            ++counters_.rx_oversize;
            return outcome;
        case Outcome::broken:
            ++counters_.rx_broken_ring;
            return outcome;
    }

    header.buffers = static_cast<std::uint16_t>(buffers_.size());
    copy(header, pieces);
    std::size_t left = sizeof(NetHeader) + frame_bytes;
    for (const Buffer& buffer : buffers_) {
        const std::size_t written = left < buffer.length_bytes ? left : buffer.length_bytes;
        ring_.give_back(buffer.head, static_cast<std::uint32_t>(written));
        left -= written;
    }
    ++counters_.frames;
    counters_.bytes += frame_bytes;
    counters_.elements += buffers_.size();
    return outcome;
}

template <class Ring>
void BasicReceiveQueue<Ring>::prefetch(std::size_t frames) noexcept {
    // The header often ends one cache line and the frame begins the next; the rest of a long frame streams.
    constexpr std::uint64_t cache_line_bytes = 64;
    constexpr int for_writing = 1;
    const std::size_t count = std::min<std::size_t>(frames, ring_.waiting(static_cast<std::uint16_t>(frames)));
    for (std::size_t i = 0; i < count; ++i) {
        const Descriptor descriptor = ring_.peek(static_cast<std::uint16_t>(ring_.next() + i));
        const auto range = memory_.translate(mem::GuestPhys{descriptor.address}, 2 * cache_line_bytes);
        if (range.length_bytes < 2 * cache_line_bytes) continue;
        __builtin_prefetch(range.host, for_writing);
        __builtin_prefetch(range.host + cache_line_bytes, for_writing);
    }
}

template <class Ring>
bool BasicReceiveQueue<Ring>::deliver_whole(std::span<const std::span<const std::byte>> pieces, NetHeader header,
                                            std::size_t bytes) noexcept {
    if (ring_.waiting(1) == 0) return false;
    std::uint16_t head = 0;
    const std::optional<Descriptor> buffer = ring_.single(ring_.next(), head);
    if (!buffer || !(buffer->flags & Descriptor::device_writes) || buffer->length_bytes < bytes) return false;
    const auto range = memory_.translate(mem::GuestPhys{buffer->address}, buffer->length_bytes);
    if (range.length_bytes != buffer->length_bytes) return false;

    header.buffers = 1;
    std::memcpy(range.host, &header, sizeof(header));
    std::byte* to = range.host + sizeof(header);
    for (const auto& piece : pieces) {
        std::memcpy(to, piece.data(), piece.size());
        to += piece.size();
    }
    ring_.take(1);
    ring_.give_back(head, static_cast<std::uint32_t>(bytes));
    return true;
}

template <class Ring>
Delivery BasicReceiveQueue<Ring>::gather(std::size_t bytes) noexcept {
    segments_.clear();
    buffers_.clear();
    descriptors_ = 0;
    const std::size_t most_buffers = mergeable_ ? ring_.entries() : 1;
    for (std::size_t gathered = 0; gathered < bytes;) {
        if (buffers_.size() == most_buffers) return Outcome::dropped;
        const auto wanted = static_cast<std::uint16_t>(buffers_.size() + 1);
        if (ring_.waiting(wanted) < wanted) return ring_.broken() ? Outcome::broken : Outcome::no_buffer;
        if (const Outcome outcome = add_buffer(); outcome != Outcome::delivered) return outcome;
        gathered += buffers_.back().length_bytes;
    }
    ring_.take(static_cast<std::uint16_t>(buffers_.size()));
    return Outcome::delivered;
}

template <class Ring>
Delivery BasicReceiveQueue<Ring>::add_buffer() noexcept {
    bool room = true;
    std::uint64_t length_bytes = 0;
    const auto add = [&](const Descriptor& descriptor) {
        // Empty ones count: chains of them would be work without end.
        room = ++descriptors_ <= most_segments;
        if (!room || !(descriptor.flags & Descriptor::device_writes)) return false;
        for (std::uint64_t offset = 0; offset < descriptor.length_bytes;) {
            const auto range =
                memory_.translate(mem::GuestPhys{descriptor.address + offset}, descriptor.length_bytes - offset);
            if (range.length_bytes == 0) return false;
            room = segments_.size() < most_segments;
            if (!room) return false;
            segments_.push_back({range.host, static_cast<std::uint32_t>(range.length_bytes)});
            offset += range.length_bytes;
        }
        length_bytes += descriptor.length_bytes;
        return true;
    };
    std::uint16_t head = 0;
    const auto position = static_cast<std::uint16_t>(ring_.next() + buffers_.size());
    const Walk walk = ring_.walk(position, head, add);
    if (walk == Walk::broken) return Outcome::broken;
    if (!room) return Outcome::dropped;
    // Buffers of a merged frame are used back to back, so a bad one cannot be given back in between. And no driver
    // posts one: read-only, outside its memory, or shorter than a header (VIRTIO 1.3, 5.1.6.3.1).
    if (walk == Walk::refused || length_bytes < sizeof(NetHeader)) {
        ring_.break_ring();
        return Outcome::broken;
    }
    buffers_.push_back({head, length_bytes});
    return Outcome::delivered;
}

template <class Ring>
void BasicReceiveQueue<Ring>::copy(const NetHeader& header,
                                   std::span<const std::span<const std::byte>> pieces) noexcept {
    auto segment = segments_.begin();
    std::size_t filled = 0;
    const auto append = [&](std::span<const std::byte> from) {
        while (!from.empty()) {
            if (filled == segment->length_bytes) {
                ++segment;
                filled = 0;
                continue;
            }
            const std::size_t room = segment->length_bytes - filled;
            const std::size_t count = from.size() < room ? from.size() : room;
            std::memcpy(segment->host + filled, from.data(), count);
            filled += count;
            from = from.subspan(count);
        }
    };
    append(std::as_bytes(std::span(&header, 1)));
    for (const auto& piece : pieces) append(piece);
}

template class BasicReceiveQueue<DeviceRing>;
template class BasicReceiveQueue<PackedDeviceRing>;

}  // namespace vitrine::virtio
