#include "apps/guest/driver_ring.hpp"

#include <cassert>
#include <cstring>

namespace vitrine::guest {
namespace {

using virtio::Descriptor;
using virtio::RingHeader;
using virtio::UsedElement;

UsedElement load_element(std::byte* used_ring, std::uint16_t slot) noexcept {
    auto* const words = reinterpret_cast<std::uint32_t*>(used_ring + sizeof(RingHeader) + sizeof(UsedElement) * slot);
    return {std::atomic_ref(words[0]).load(std::memory_order_relaxed),
            std::atomic_ref(words[1]).load(std::memory_order_relaxed)};
}

}  // namespace

std::size_t DriverRing::memory_bytes(const Config& config) {
    return ring_bytes(config.entries) + IndirectTables::memory_bytes(config);
}

DriverRing::DriverRing(GuestRam& ram, const Config& config)
    : SplitEnd(ram, config.entries),
      config_(config),
      indirect_(ram, config),
      chains_(config.entries),
      head_states_(config.entries, HeadState::never_offered),
      head_position_(config.entries),
      free_descriptors_(config.entries) {
    assert(virtio::valid_ring_entries(config.entries));
    if (!config.marker) return;
    assert(config.entries >= virtio::vrx::fewest_entries);
    std::memcpy(descriptor_area_ + virtio::vrx::marker_offset(config.entries), &*config.marker, sizeof(*config.marker));
    --free_descriptors_;
}

bool DriverRing::add(std::span<const Segment> segments, std::uint32_t cookie) noexcept {
    assert(!segments.empty() && segments.size() <= config_.most_segments);
    assert(!config_.marker || segments.size() == 1);
    const bool indirect = config_.indirect && segments.size() > 1;
    const auto needed = static_cast<std::uint16_t>(indirect ? 1 : segments.size());
    if (broken() || needed > free_descriptors_) return false;

    const std::uint16_t head = next_descriptor_;
    if (indirect) {
        write_chain(indirect_.table(head), 0, segments, false);
        const Descriptor pointer{.address = indirect_.address(head).raw,
                                 .length_bytes = static_cast<std::uint32_t>(sizeof(Descriptor) * segments.size()),
                                 .flags = Descriptor::indirect,
                                 .next = 0};
        std::memcpy(descriptor_area_ + sizeof(Descriptor) * head, &pointer, sizeof(pointer));
    } else {
        write_chain(descriptor_area_, head, segments, true);
    }
    next_descriptor_ = static_cast<std::uint16_t>((head + needed) & mask());
    if (config_.marker && next_descriptor_ == mask()) next_descriptor_ = 0;
    free_descriptors_ = static_cast<std::uint16_t>(free_descriptors_ - needed);

    chains_[added_ & mask()] = {needed, cookie, writable_bytes_of(segments), false};
    head_states_[head] = HeadState::offered;
    head_position_[head] = added_;
    store(available_ring_ + sizeof(RingHeader) + 2u * (added_ & mask()), head, std::memory_order_relaxed);
    ++added_;
    return true;
}

void DriverRing::write_chain(std::byte* table, std::uint16_t first, std::span<const Segment> segments,
                             bool wraps) noexcept {
    for (std::size_t i = 0; i < segments.size(); ++i) {
        const std::size_t index = wraps ? (first + i) & mask() : i;
        const std::size_t next = wraps ? (first + i + 1) & mask() : i + 1;
        const bool last = i + 1 == segments.size();
        std::uint16_t flags = last ? 0 : Descriptor::has_next;
        if (segments[i].device_writes) flags |= Descriptor::device_writes;
        const Descriptor descriptor{.address = segments[i].address.raw,
                                    .length_bytes = segments[i].length_bytes,
                                    .flags = flags,
                                    .next = last ? std::uint16_t{0} : static_cast<std::uint16_t>(next)};
        std::memcpy(table + sizeof(Descriptor) * index, &descriptor, sizeof(descriptor));
    }
}

void DriverRing::publish() noexcept {
    if (added_ == published_) return;
    const std::uint16_t before = published_;
    published_ = added_;
    // Release: heads, descriptors and the frames behind them are there before the index says so.
    store(available_ring_ + offsetof(RingHeader, index), published_, std::memory_order_release);
    // Our index must be visible before we read the device's wish, else both sides could wait for each other (2.7.13.4).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    kick(device_wants_kick(before));
}

bool DriverRing::device_wants_kick(std::uint16_t before) const noexcept {
    if (!config_.event_index) return (load(used_ring_, std::memory_order_relaxed) & virtio::used_no_notify) == 0;
    const std::uint16_t event =
        load(used_ring_ + virtio::available_event_offset(config_.entries), std::memory_order_relaxed);
    return virtio::passes_event(event, published_, before);
}

std::optional<DriverRing::Used> DriverRing::take_used() noexcept {
    if (broken()) return std::nullopt;
    if (used_ == used_known_) {
        // Acquire: elements, and what the device wrote, are read after the index that covers them.
        const std::uint16_t index = load(used_ring_ + offsetof(RingHeader, index), std::memory_order_acquire);
        if (index == used_) return std::nullopt;
        if (static_cast<std::uint16_t>(index - used_) > outstanding()) {
            break_ring(Violation::used_index_jumped);
            return std::nullopt;
        }
        used_known_ = index;
    }
    UsedElement element = load_element(used_ring_, used_ & mask());
    const std::uint32_t offset = config_.marker ? element.head >> 16 : 0;
    if (config_.marker) element.head &= 0xffff;
    const bool is_head = element.head < config_.entries;
    const HeadState state = is_head ? head_states_[element.head] : HeadState::never_offered;
    const std::uint16_t position = is_head ? head_position_[element.head] : std::uint16_t{0};
    if (state == HeadState::given_back) {
        break_ring(Violation::used_twice);
        return std::nullopt;
    }
    const auto age = static_cast<std::uint16_t>(position - oldest_);
    if (state == HeadState::never_offered || age >= static_cast<std::uint16_t>(published_ - oldest_)) {
        break_ring(Violation::never_offered);
        return std::nullopt;
    }
    if (age != 0) note(Violation::out_of_order);

    Chain& chain = chains_[position & mask()];
    Used used{chain.cookie, element.written_bytes, offset};
    if (std::uint64_t{offset} + used.written_bytes > chain.writable_bytes) {
        note(Violation::written_too_much);
        used.offset = 0;
        used.written_bytes = chain.writable_bytes;
    }
    chain.given_back = true;
    head_states_[element.head] = HeadState::given_back;
    ++used_;
    while (oldest_ != published_ && chains_[oldest_ & mask()].given_back) {
        free_descriptors_ = static_cast<std::uint16_t>(free_descriptors_ + chains_[oldest_ & mask()].descriptors);
        ++oldest_;
    }
    return used;
}

bool DriverRing::has_used() const noexcept {
    return !broken() && used_index() != used_;
}

void DriverRing::want_calls(bool wanted) noexcept {
    if (!config_.event_index)
        store(available_ring_, wanted ? 0 : virtio::available_no_interrupt, std::memory_order_relaxed);
    else if (wanted)  // left alone it asks for nothing more: the device has passed it
        store(available_ring_ + virtio::used_event_offset(config_.entries), used_, std::memory_order_relaxed);
    // The wish must be visible before the caller looks at used.idx again (2.7.14).
    if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace vitrine::guest
