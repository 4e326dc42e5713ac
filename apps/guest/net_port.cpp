#include "apps/guest/net_port.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <poll.h>

namespace vitrine::guest {
namespace {

using virtio::NetHeader;

constexpr std::size_t cache_line_bytes = 64;

std::size_t whole_lines(std::size_t bytes) {
    return (bytes + cache_line_bytes - 1) / cache_line_bytes * cache_line_bytes;
}

/// Each in one piece for the device, whatever its memory is made of.
std::vector<std::byte*> make_buffers(GuestRam& ram, std::size_t count, std::size_t bytes) {
    std::vector<std::byte*> buffers(count);
    for (std::byte*& buffer : buffers) buffer = ram.allocate(bytes, cache_line_bytes).data();
    return buffers;
}

RingConfig without_marker(RingConfig config) {
    config.marker.reset();
    return config;
}

}  // namespace

timespec to_timespec(std::chrono::nanoseconds time) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
    return {.tv_sec = seconds.count(), .tv_nsec = (time - seconds).count()};
}

std::span<const std::byte> Frame::contiguous(std::span<std::byte> scratch) const noexcept {
    if (pieces.size() == 1) return pieces[0];
    std::size_t filled = 0;
    for (const auto& piece : pieces) {
        std::memcpy(scratch.data() + filled, piece.data(), piece.size());
        filled += piece.size();
    }
    return scratch.first(filled);
}

void NetPortConfig::receive_at_offsets(std::uint32_t region_tag, std::size_t page_bytes) {
    namespace vrx = virtio::vrx;
    constexpr std::size_t most_written_bytes = 10 * 1024;
    receive_buffer_bytes = std::min(page_bytes, most_written_bytes) + vrx::offset_room_bytes;
    ring.marker = vrx::Marker::of(vrx::Mode::offset, region_tag, static_cast<std::uint32_t>(receive_buffer_bytes));
}

template <class Ring>
std::size_t BasicNetPort<Ring>::memory_bytes(const Config& config) {
    return 2 * Ring::memory_bytes(config.ring) + cache_line_bytes +
           config.ring.entries * (whole_lines(config.receive_buffer_bytes) + whole_lines(config.transmit_buffer_bytes));
}

template <class Ring>
BasicNetPort<Ring>::BasicNetPort(GuestRam& ram, const Config& config)
    : ram_(ram),
      config_(config),
      receive_ring_(ram, config.ring),
      transmit_ring_(ram, without_marker(config.ring)),
      receive_buffers_(make_buffers(ram, config.ring.entries, config.receive_buffer_bytes)),
      transmit_buffers_(make_buffers(ram, config.ring.entries, config.transmit_buffer_bytes)) {
    frames_.reserve(most_frames_per_burst);
    pieces_.reserve(config.ring.entries);
    held_buffers_.reserve(config.ring.entries);
    free_transmit_buffers_.reserve(config.ring.entries);
    for (std::uint32_t buffer = config.ring.entries; buffer > 0; --buffer) free_transmit_buffers_.push_back(buffer - 1);
}

template <class Ring>
void BasicNetPort<Ring>::post_buffers() noexcept {
    for (std::uint32_t buffer = 0; buffer < config_.ring.entries && add_receive_buffer(buffer); ++buffer) {
    }
    receive_ring_.publish();
}

template <class Ring>
bool BasicNetPort<Ring>::add(Ring& ring, mem::GuestPhys address, std::uint32_t length_bytes, bool device_writes,
                             std::uint32_t buffer) noexcept {
    if (!config_.ring.indirect) {
        const std::array whole{Segment{address, length_bytes, device_writes}};
        return ring.add(whole, buffer);
    }
    // A table earns its keep only with more than one segment: the header apart, as some drivers post it.
    constexpr std::uint32_t header_bytes = sizeof(NetHeader);
    const std::array parts{Segment{address, header_bytes, device_writes},
                           Segment{address + header_bytes, length_bytes - header_bytes, device_writes}};
    return ring.add(parts, buffer);
}

template <class Ring>
bool BasicNetPort<Ring>::add_receive_buffer(std::uint32_t buffer) noexcept {
    const auto bytes = receive_buffer(buffer);
    const mem::GuestPhys address = ram_.address_of(bytes.data());
    const auto length_bytes = static_cast<std::uint32_t>(bytes.size());
    return add(receive_ring_, address, length_bytes, true, buffer);
}

template <class Ring>
std::span<const Frame> BasicNetPort<Ring>::receive() noexcept {
    frames_.clear();
    pieces_.clear();
    while (frames_.size() < most_frames_per_burst) {
        const auto first = receive_ring_.take_used();
        if (!first || !take_frame(*first)) break;
    }
    return frames_;
}

template <class Ring>
bool BasicNetPort<Ring>::take_frame(UsedChain first) noexcept {
    held_buffers_.push_back(first.cookie);
    if (first.written_bytes < sizeof(NetHeader)) {
        receive_ring_.note(Violation::header_cut);
        return true;
    }
    const auto first_bytes = receive_buffer(first.cookie).subspan(first.offset, first.written_bytes);
    NetHeader header;
    std::memcpy(&header, first_bytes.data(), sizeof(header));
    if (header.flags != 0 || header.gso_type != NetHeader::gso_none) receive_ring_.note(Violation::header_not_plain);

    const std::uint16_t most_buffers = config_.mergeable ? config_.ring.entries : std::uint16_t{1};
    if (header.buffers == 0 || header.buffers > most_buffers) {
        receive_ring_.note(Violation::buffer_count_wrong);
        header.buffers = 1;
    }
    const std::size_t first_piece = pieces_.size();
    std::size_t length_bytes = first_bytes.size() - sizeof(header);
    if (length_bytes != 0) pieces_.push_back(first_bytes.subspan(sizeof(header)));
    std::size_t last_bytes = first_bytes.size();
    for (std::uint16_t buffer = 1; buffer < header.buffers; ++buffer) {
        if (last_bytes != config_.receive_buffer_bytes && !config_.ring.marker)
            receive_ring_.note(Violation::buffer_not_filled);
        const auto used = receive_ring_.take_used();
        if (!used) {
            receive_ring_.note(Violation::frame_in_parts);
            return false;
        }
        held_buffers_.push_back(used->cookie);
        pieces_.push_back(receive_buffer(used->cookie).subspan(used->offset, used->written_bytes));
        length_bytes += used->written_bytes;
        last_bytes = used->written_bytes;
    }
    if (length_bytes == 0) {
        ++empty_frames_;
        return true;
    }
    frames_.push_back({header, std::span(pieces_).subspan(first_piece), length_bytes});
    return true;
}

template <class Ring>
void BasicNetPort<Ring>::release() noexcept {
    while (!held_buffers_.empty() && add_receive_buffer(held_buffers_.back())) held_buffers_.pop_back();
    receive_ring_.publish();
}

template <class Ring>
std::span<std::byte> BasicNetPort<Ring>::transmit_buffer() noexcept {
    if (free_transmit_buffers_.empty() || !transmit_ring_.has_room()) return {};
    return std::span(transmit_buffers_[free_transmit_buffers_.back()], config_.transmit_buffer_bytes)
        .subspan(sizeof(NetHeader));
}

template <class Ring>
void BasicNetPort<Ring>::send(std::size_t length_bytes) noexcept {
    const std::uint32_t buffer = free_transmit_buffers_.back();
    free_transmit_buffers_.pop_back();
    std::byte* const start = transmit_buffers_[buffer];
    assert(sizeof(NetHeader) + length_bytes <= config_.transmit_buffer_bytes);
    const NetHeader header{};
    std::memcpy(start, &header, sizeof(header));
    add(transmit_ring_, ram_.address_of(start), static_cast<std::uint32_t>(sizeof(header) + length_bytes), false,
        buffer);
}

template <class Ring>
std::size_t BasicNetPort<Ring>::reclaim() noexcept {
    std::size_t count = 0;
    while (const auto used = transmit_ring_.take_used()) {
        free_transmit_buffers_.push_back(used->cookie);
        ++count;
    }
    return count;
}

template <class Ring>
void BasicNetPort<Ring>::sleep(std::chrono::nanoseconds limit, int backend, std::span<const int> also) noexcept {
    receive_ring_.want_calls(true);
    transmit_ring_.want_calls(true);
    if (!receive_ring_.has_used() && !transmit_ring_.has_used()) {
        std::array<pollfd, 3 + most_also> entries{{{receive_ring_.call_descriptor(), POLLIN, 0},
                                                   {transmit_ring_.call_descriptor(), POLLIN, 0},
                                                   {backend, POLLIN, 0}}};
        assert(also.size() <= most_also);
        for (std::size_t i = 0; i < also.size(); ++i) entries[3 + i] = {also[i], POLLIN, 0};
        const timespec timeout = to_timespec(limit);
        // Whatever it says, the rings know better.
        ::ppoll(entries.data(), 3 + also.size(), &timeout, nullptr);
        check_call(receive_ring_, backend);
        check_call(transmit_ring_, backend);
    }
    receive_ring_.want_calls(false);
    transmit_ring_.want_calls(false);
}

template <class Ring>
void BasicNetPort<Ring>::check_call(Ring& ring, int backend) noexcept {
    if (ring.drain_call() || !ring.has_used() || backend < 0) return;
    // Used while we slept, and no call yet: the device may be between its two steps, or have died there.
    std::array<pollfd, 2> entries{{{ring.call_descriptor(), POLLIN, 0}, {backend, POLLIN, 0}}};
    ::poll(entries.data(), entries.size(), static_cast<int>(config_.call_grace.count()));
    if (!ring.drain_call() && entries[1].revents == 0) ring.note(Violation::call_missing);
}

template class BasicNetPort<DriverRing>;
template class BasicNetPort<PackedDriverRing>;

}  // namespace vitrine::guest
