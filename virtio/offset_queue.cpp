#include "virtio/offset_queue.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace vitrine::virtio {
namespace {

/// 9018 bytes in the smallest buffers, and some.
constexpr std::size_t most_buffers_of_frame = 8;

}  // namespace

OffsetQueue::OffsetQueue(const GuestMemory& memory, DeviceRing ring, std::uint32_t buffer_bytes, bool mergeable,
                         ReceiveCounters& counters) noexcept
    : memory_(memory), ring_(ring), buffer_bytes_(buffer_bytes), mergeable_(mergeable), counters_(counters) {
    ring_.set_answer(vrx::Answer::granted(vrx::Mode::offset));
}

OffsetQueue::Outcome OffsetQueue::deliver(std::span<const std::span<const std::byte>> pieces,
                                          NetHeader header) noexcept {
    std::size_t frame_bytes = 0;
    for (const auto& piece : pieces) frame_bytes += piece.size();
    const std::size_t room_bytes = buffer_bytes_ - data_offset;
    const std::size_t count = frame_bytes == 0 ? 1 : (frame_bytes + room_bytes - 1) / room_bytes;
    // Descriptor N-1 is the marker's, so N-1 buffers is all that can ever wait.
    if (count > (mergeable_ ? std::min<std::size_t>(most_buffers_of_frame, ring_.entries() - 1u) : 1u)) {
        ++counters_.rx_oversize;
        return Outcome::dropped;
    }
    if (ring_.waiting(static_cast<std::uint16_t>(count)) < count) {
        ++(ring_.broken() ? counters_.rx_broken_ring : counters_.rx_no_buffer_tries);
        return ring_.broken() ? Outcome::broken : Outcome::no_buffer;
    }
    std::array<Buffer, most_buffers_of_frame> buffers{};
    for (std::size_t i = 0; i < count; ++i) {
        buffers[i] = buffer_at(static_cast<std::uint16_t>(ring_.next() + i));
        if (buffers[i].data != nullptr) continue;
        ++counters_.rx_broken_ring;
        return Outcome::broken;
    }

    header.buffers = static_cast<std::uint16_t>(count);
    std::memcpy(buffers[0].data - sizeof(header), &header, sizeof(header));
    std::size_t filled = 0;
    for (std::span<const std::byte> piece : pieces) {
        while (!piece.empty()) {
            const std::size_t offset = filled % room_bytes;
            const std::size_t bytes = std::min(piece.size(), room_bytes - offset);
            std::memcpy(buffers[filled / room_bytes].data + offset, piece.data(), bytes);
            piece = piece.subspan(bytes);
            filled += bytes;
        }
    }
    ring_.take(static_cast<std::uint16_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t data_bytes = std::min(room_bytes, frame_bytes - i * room_bytes);
        const std::uint32_t offset = i == 0 ? header_offset : data_offset;
        const auto length_bytes = static_cast<std::uint32_t>(data_bytes + (data_offset - offset));
        ring_.put(vrx::UsedPage::of(buffers[i].head, offset, length_bytes).raw);
    }
    ++counters_.frames;
    counters_.bytes += frame_bytes;
    counters_.elements += count;
    return Outcome::delivered;
}

/// No driver posts anything but what section 5 says; one that does is not worth a second look.
OffsetQueue::Buffer OffsetQueue::buffer_at(std::uint16_t position) noexcept {
    std::uint16_t head = 0;
    const std::optional<Descriptor> descriptor = ring_.single(position, head);
    if (descriptor && head < ring_.entries() - 1 && (descriptor->flags & Descriptor::device_writes) != 0 &&
        descriptor->length_bytes == buffer_bytes_) {
        const auto range = memory_.translate(mem::GuestPhys{descriptor->address}, buffer_bytes_);
        if (range.length_bytes == buffer_bytes_) return {head, range.host + data_offset};
    }
    ring_.break_ring();
    return {head, nullptr};
}

}  // namespace vitrine::virtio
