#include "apps/guest/packed_driver_ring.hpp"

#include <cassert>
#include <cstring>

namespace vitrine::guest {

std::size_t PackedDriverRing::memory_bytes(const Config& config) {
    return ring_bytes(config.entries) + IndirectTables::memory_bytes(config);
}

PackedDriverRing::PackedDriverRing(GuestRam& ram, const Config& config)
    : PackedEnd(ram, config.entries, config.event_index),
      config_(config),
      indirect_(ram, config),
      chains_(config.entries),
      usable_slots_(config.entries) {
    assert(!config.marker);
}

bool PackedDriverRing::add(std::span<const Segment> segments, std::uint32_t cookie) noexcept {
    assert(!segments.empty() && segments.size() <= config_.most_segments);
    const bool indirect = config_.indirect && segments.size() > 1;
    const auto needed = static_cast<std::uint16_t>(indirect ? 1 : segments.size());
    if (broken() || needed > usable_slots_) return false;

    const std::uint16_t id = next_id_;
    if (indirect)
        stage_indirect(segments, id);
    else
        stage_chain(segments, id);
    chains_[id] = {needed, Chain::State::offered, cookie, writable_bytes_of(segments)};
    next_id_ = after(id);
    usable_slots_ = static_cast<std::uint16_t>(usable_slots_ - needed);
    ++added_chains_;
    return true;
}

/// In the table no flag but WRITE has a meaning, and no id (2.8.7).
void PackedDriverRing::stage_indirect(std::span<const Segment> segments, std::uint16_t id) noexcept {
    for (std::size_t i = 0; i < segments.size(); ++i) {
        const Descriptor descriptor{.address = segments[i].address.raw,
                                    .length_bytes = segments[i].length_bytes,
                                    .id = 0,
                                    .flags = segments[i].device_writes ? Descriptor::device_writes : std::uint16_t{0}};
        std::memcpy(indirect_.table(id) + sizeof(Descriptor) * i, &descriptor, sizeof(descriptor));
    }
    stage({.address = indirect_.address(id).raw,
           .length_bytes = static_cast<std::uint32_t>(sizeof(Descriptor) * segments.size()),
           .id = id,
           .flags = Descriptor::indirect});
}

/// The last one of a chain has the id (2.8.6).
void PackedDriverRing::stage_chain(std::span<const Segment> segments, std::uint16_t id) noexcept {
    for (const Segment& segment : segments) {
        const bool last = &segment == &segments.back();
        std::uint16_t flags = last ? 0 : Descriptor::has_next;
        if (segment.device_writes) flags |= Descriptor::device_writes;
        stage({.address = segment.address.raw,
               .length_bytes = segment.length_bytes,
               .id = last ? id : std::uint16_t{0},
               .flags = flags});
    }
}

void PackedDriverRing::publish() noexcept {
    shown_chains_ = static_cast<std::uint16_t>(shown_chains_ + added_chains_);
    outstanding_ = static_cast<std::uint16_t>(outstanding_ + added_chains_);
    added_chains_ = 0;
    show();
}

std::optional<UsedChain> PackedDriverRing::take_used() noexcept {
    const auto descriptor = next_used();
    if (!descriptor || !is_outstanding(descriptor->id)) return std::nullopt;
    if (descriptor->id != oldest_id_) note(Violation::out_of_order);
    Chain& chain = chains_[descriptor->id];

    // Without WRITE nothing was written, and the length has no meaning (2.8.4).
    const bool writes = (descriptor->flags & Descriptor::device_writes) != 0;
    constexpr std::uint16_t known = Descriptor::lap_mask | Descriptor::device_writes;
    if ((descriptor->flags & ~known) != 0 || (writes && chain.writable_bytes == 0) ||
        (!writes && descriptor->length_bytes != 0))
        note(Violation::flags_wrong);
    Used used{chain.cookie, writes ? descriptor->length_bytes : 0};
    if (used.written_bytes > chain.writable_bytes) {
        note(Violation::written_too_much);
        used.written_bytes = chain.writable_bytes;
    }

    chain.state = Chain::State::given_back;
    --outstanding_;
    pass(chain.slots);
    for (; shown_chains_ != 0 && chains_[oldest_id_].state == Chain::State::given_back; --shown_chains_) {
        usable_slots_ = static_cast<std::uint16_t>(usable_slots_ + chains_[oldest_id_].slots);
        oldest_id_ = after(oldest_id_);
    }
    return used;
}

bool PackedDriverRing::is_outstanding(std::uint16_t id) noexcept {
    using State = Chain::State;
    const State state = id < entries_ ? chains_[id].state : State::never_offered;
    if (state == State::given_back)
        break_ring(Violation::used_twice);
    else if (state == State::never_offered || age(id) >= shown_chains_)
        break_ring(Violation::never_offered);
    return !broken();
}

bool PackedDriverRing::stands_at(std::uint32_t base) const noexcept {
    Position position = used_position();
    for (std::uint16_t chain = 0; chain < outstanding_; ++chain) {
        const auto used = used_at(position);
        if (!used) break;
        if (used->id >= entries_) return false;
        position = position.after(chains_[used->id].slots, entries_);
    }
    return virtio::PackedBase::of(base) == virtio::PackedBase{position, position};
}

}  // namespace vitrine::guest
