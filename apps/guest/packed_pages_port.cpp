#include "apps/guest/packed_pages_port.hpp"

#include <algorithm>
#include <cassert>

namespace vitrine::guest {

namespace vrx = virtio::vrx;

namespace {

/// The answer to the marker, if the descriptor is one (9.1).
std::optional<vrx::Answer> answer_in(const virtio::PackedDescriptor& used) {
    using Descriptor = virtio::PackedDescriptor;
    const vrx::Answer answer{static_cast<std::uint8_t>(used.length_bytes)};
    const bool is_one = answer == vrx::Answer::granted(vrx::Mode::pages) || answer.is_refusal();
    if (!is_one || used.length_bytes > 0xff || used.address != 0 || used.id != vrx::PackedMarker::id ||
        (used.flags & ~Descriptor::lap_mask) != Descriptor::device_writes)
        return std::nullopt;
    return answer;
}

}  // namespace

std::uint16_t PackedPagesPort::most_pages_of_frame(const Config& config, std::size_t page_bytes) {
    const std::size_t wanted = (config.most_frame_bytes + page_bytes - 1) / page_bytes;
    auto pages = static_cast<std::uint16_t>(std::min<std::size_t>(wanted, config.entries));
    while (pages > 1 && pages + vrx::reserved_slots(pages) > config.entries) --pages;
    return pages;
}

PackedPagesPort::PackedPagesPort(GuestRam& ram, const PageRegion& region, const Config& config)
    : PackedPagesPort(ram, region, config, most_pages_of_frame(config, region.layout().page_bytes)) {}

PackedPagesPort::PackedPagesPort(GuestRam& ram, const PageRegion& region, const Config& config,
                                 std::uint16_t most_pages)
    : PagesEnd(region, most_pages, ram, config.entries, config.event_index), region_tag_(region.tag()) {
    assert(config.entries >= vrx::fewest_entries);
    released_pages_.reserve(region.layout().page_count);
}

void PackedPagesPort::start() noexcept {
    stage(vrx::PackedMarker::of(region_tag_, most_parts()));
    flush();
}

vrx::Answer PackedPagesPort::answer() const noexcept {
    if (!answer_.none() || broken()) return answer_;
    const auto used = used_at(used_position());
    return used ? answer_in(*used).value_or(vrx::Answer{}) : vrx::Answer{};
}

bool PackedPagesPort::take_answer() noexcept {
    const auto used = next_used();
    if (!used) return false;
    if (const auto answer = answer_in(*used)) {
        answer_ = *answer;
        pass(1);
    } else {
        break_ring(Violation::element_out_of_bounds);
    }
    return !broken();
}

std::optional<PageElement> PackedPagesPort::next_element() noexcept {
    if (answer_.none() && !take_answer()) return std::nullopt;
    if (answer_.is_refusal()) return std::nullopt;
    const auto used = next_used();
    if (!used) return std::nullopt;
    if ((used->flags & ~Descriptor::lap_mask) != Descriptor::device_writes) {
        break_ring(Violation::element_out_of_bounds);
        return std::nullopt;
    }
    pass(1);
    return PageElement{.page = used->id,
                       .offset = static_cast<std::uint16_t>(used->address),
                       .length_bytes = used->length_bytes,
                       .flags = used->address >> 16};
}

void PackedPagesPort::release(const LentFrame& frame) noexcept {
    let_go(frame, [this](std::uint16_t page) { released_pages_.push_back(page); });
}

void PackedPagesPort::flush() noexcept {
    if (broken() || answer_.is_refusal()) return;
    while (free_slots() > 0) {
        const std::size_t count = std::min<std::size_t>(released_pages_.size(), vrx::returns_per_descriptor);
        if (!may_fill(count)) break;
        stage_credit(count);
    }
    show();
}

bool PackedPagesPort::may_fill(std::size_t count) const noexcept {
    if (free_slots() > vrx::reserved_slots(most_parts())) return true;
    return count == vrx::returns_per_descriptor || pages_held() + released_pages_.size() == count;
}

void PackedPagesPort::stage_credit(std::size_t count) noexcept {
    std::uint64_t returns = vrx::no_returns;
    for (; count > 0; --count) {
        returns = returns << 16 | released_pages_.back();
        given_back(released_pages_.back());
        released_pages_.pop_back();
    }
    stage({.address = returns, .length_bytes = 0, .id = 0, .flags = Descriptor::device_writes});
}

bool PackedPagesPort::stands_at(std::uint32_t base) const noexcept {
    Position used = used_position();
    while (used != shown_position() && is_used(used)) used = used.after(1, entries());
    const auto [next_to_read, next_to_use] = virtio::PackedBase::of(base);
    return next_to_use == used && next_to_read.slot < entries() &&
           next_to_read.from(used, entries()) <= shown_position().from(used, entries());
}

}  // namespace vitrine::guest
