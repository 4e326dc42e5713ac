#include "virtio/offset_queue.hpp"

#include <array>
#include <cstring>

namespace vitrine::virtio {

OffsetQueue::OffsetQueue(const GuestMemory& memory, DeviceRing ring, std::uint32_t buffer_bytes, bool mergeable,
                         ReceiveCounters& counters) noexcept
    : RingQueue(ring), memory_(memory), buffer_bytes_(buffer_bytes), mergeable_(mergeable), counters_(counters) {
    ring_.set_answer(vrx::Answer::granted(vrx::Mode::offset));
}

OffsetQueue::Outcome OffsetQueue::deliver(std::span<const std::span<const std::byte>> pieces,
                                          NetHeader header) noexcept {
    std::size_t frame_bytes = 0;
    for (const auto& piece : pieces) frame_bytes += piece.size();
    const std::size_t count = frame_bytes == 0 ? 1 : (frame_bytes + room_bytes() - 1) / room_bytes();
    if (count > most_buffers()) {
        ++counters_.rx_oversize;
        return Outcome::dropped;
    }
    if (ring_.waiting(static_cast<std::uint16_t>(count)) < count) {
        ++(ring_.broken() ? counters_.rx_broken_ring : counters_.rx_no_buffer_tries);
        return ring_.broken() ? Outcome::broken : Outcome::no_buffer;
    }
    std::array<Filled, most_buffers_of_any_frame> filled;
    for (std::size_t i = 0; i < count; ++i) {
        filled[i] = {buffer_at(static_cast<std::uint16_t>(ring_.next() + i)), 0};
        if (filled[i].buffer.data != nullptr) continue;
        ++counters_.rx_broken_ring;
        return Outcome::broken;
    }

    auto to = filled.begin();
    for (std::span<const std::byte> piece : pieces) {
        while (!piece.empty()) {
            if (to->length_bytes == room_bytes()) ++to;
            const std::size_t bytes = std::min<std::size_t>(piece.size(), room_bytes() - to->length_bytes);
            std::memcpy(to->buffer.data + to->length_bytes, piece.data(), bytes);
            to->length_bytes += static_cast<std::uint32_t>(bytes);
            piece = piece.subspan(bytes);
        }
    }
    ring_.take(static_cast<std::uint16_t>(count));
    give_back(std::span(filled).first(count), header);
    return Outcome::delivered;
}

OffsetQueue::Buffer OffsetQueue::take() noexcept {
    if (ring_.waiting(1) == 0) return {};
    const Buffer buffer = buffer_at(ring_.next());
    if (buffer.data == nullptr || buffer.iova.raw == 0) return {};
    ring_.take(1);
    return buffer;
}

void OffsetQueue::give_back(std::span<const Filled> frame, NetHeader header) noexcept {
    header.buffers = static_cast<std::uint16_t>(frame.size());
    std::memcpy(frame[0].buffer.data - sizeof(header), &header, sizeof(header));
    for (const Filled& part : frame) {
        const std::uint32_t offset = &part == frame.data() ? header_offset : data_offset;
        ring_.put(vrx::UsedPage::of(part.buffer.head, offset, part.length_bytes + (data_offset - offset)).raw);
        counters_.bytes += part.length_bytes;
    }
    counters_.frames += frame[0].length_bytes != 0;
    counters_.elements += frame.size();
}

/// No driver posts anything but what section 5 says; one that does is not worth a second look.
OffsetQueue::Buffer OffsetQueue::buffer_at(std::uint16_t position) noexcept {
    std::uint16_t head = 0;
    const std::optional<Descriptor> descriptor = ring_.single(position, head);
    if (descriptor && head < ring_.entries() - 1 && (descriptor->flags & Descriptor::device_writes) != 0 &&
        descriptor->length_bytes == buffer_bytes_ && descriptor->address % 2 == 0) {
        const auto range = memory_.translate(mem::GuestPhys{descriptor->address}, buffer_bytes_);
        if (range.length_bytes == buffer_bytes_)
            return {head, range.host + data_offset, range.iova.raw != 0 ? range.iova + data_offset : mem::Iova{}};
    }
    ring_.break_ring();
    return {head, nullptr, {}};
}

}  // namespace vitrine::virtio
