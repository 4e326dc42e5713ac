#include "apps/guest/pages_port.hpp"

#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>

namespace vitrine::guest {

namespace vrx = virtio::vrx;
using virtio::RingHeader;
using vrx::UsedPage;

PagesPort::PagesPort(GuestRam& ram, const PageRegion& region, const Config& config)
    : SplitEnd(ram, config.entries), region_(region), config_(config), places_(region.layout().page_count) {
    assert(virtio::valid_ring_entries(config.entries) && config.entries >= vrx::fewest_entries);
    const vrx::Marker marker = vrx::Marker::of(vrx::Mode::pages, region.tag());
    std::memcpy(descriptor_area_ + vrx::marker_offset(entries_), &marker, sizeof(marker));
    // A device that knows no VRX finds a chain at an impossible address behind each of these (3.2).
    for (std::size_t slot = 0; slot < entries_; ++slot)
        store(available_ring_ + sizeof(RingHeader) + 2 * slot, mask(), std::memory_order_relaxed);
}

void PagesPort::start() noexcept {
    const std::uint16_t before = credits_;
    credits_ = static_cast<std::uint16_t>(seen_ + entries_);
    // Release: the marker is there before the first credit.
    store(available_ring_ + offsetof(RingHeader, index), credits_, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    kick(credits_ != before);
}

std::span<const LentFrame> PagesPort::receive() noexcept {
    std::size_t count = 0;
    while (count < most_frames_per_burst) {
        const auto frame = take_frame();
        if (!frame) break;
        frames_[count++] = *frame;
    }
    return std::span(frames_).first(count);
}

std::optional<LentFrame> PagesPort::take_frame() noexcept {
    auto element = take_element(true);
    if (!element) return std::nullopt;
    const std::uint16_t first = element->page();
    LentFrame frame{.bytes = region_.page(first).subspan(element->offset(), element->length_bytes()),
                    .length_bytes = element->length_bytes(),
                    .first = first,
                    .parts = 1,
                    .header = {}};
    if (element->has(UsedPage::header))
        frame.header = std::bit_cast<FrameHeader>(region_.header(first));
    else if (element->has(UsedPage::checksum_ok))
        frame.header.flags = virtio::NetHeader::data_valid;
    for (std::uint16_t last = first; element->has(UsedPage::next); last = element->page()) {
        element = take_element(false);
        if (!element) {
            if (!broken()) break_ring(Violation::frame_in_parts);
            return std::nullopt;
        }
        places_[last].next = element->page();
        frame.length_bytes += element->length_bytes();
        ++frame.parts;
    }
    frame.header.buffers = frame.parts;
    return frame;
}

std::optional<UsedPage> PagesPort::take_element(bool first) noexcept {
    if (broken()) return std::nullopt;
    if (seen_ == used_known_) {
        // Acquire: elements and pages are read after the index that covers them.
        const std::uint16_t index = load(used_ring_ + offsetof(RingHeader, index), std::memory_order_acquire);
        if (index == seen_) return std::nullopt;
        if (static_cast<std::uint16_t>(index - seen_) > static_cast<std::uint16_t>(credits_ - seen_)) {
            break_ring(Violation::used_index_jumped);
            return std::nullopt;
        }
        used_known_ = index;
    }
    auto* const words = reinterpret_cast<std::uint32_t*>(used_ring_ + sizeof(RingHeader) +
                                                         sizeof(UsedPage) * (seen_ & mask()));  // 4-byte aligned only
    const UsedPage word{std::atomic_ref(words[0]).load(std::memory_order_relaxed) |
                        std::uint64_t{std::atomic_ref(words[1]).load(std::memory_order_relaxed)} << 32};
    const mem::RegionLayout& layout = region_.layout();
    const std::uint64_t first_only = UsedPage::header | UsedPage::checksum_ok;
    if (word.page() >= layout.page_count || word.length_bytes() == 0 ||
        word.offset() + std::size_t{word.length_bytes()} > layout.page_bytes || word.has_unknown_bits() ||
        (word.has(first_only) && !first) || (word.raw & first_only) == first_only ||
        (word.has(UsedPage::header) && layout.headers_offset == 0)) {
        break_ring(Violation::element_out_of_bounds);
        return std::nullopt;
    }
    Place& place = places_[word.page()];
    if (place.held) {
        break_ring(Violation::page_given_twice);
        return std::nullopt;
    }
    place = {.offset = word.offset(), .next = 0, .length_bytes = word.length_bytes(), .held = true};
    ++held_;
    ++seen_;
    return word;
}

void PagesPort::release(const LentFrame& frame) noexcept {
    auto page = static_cast<std::uint16_t>(frame.first);
    for (std::uint16_t part = 0; part < frame.parts; ++part) {
        assert(places_[page].held);
        places_[page].held = false;
        const std::size_t slot = returned_++ & (vrx::release_entries(entries_) - 1);
        store(descriptor_area_ + 2 * slot, page, std::memory_order_relaxed);
        page = places_[page].next;
    }
    held_ -= frame.parts;
}

void PagesPort::flush() noexcept {
    if (broken()) return;
    const auto credits = static_cast<std::uint16_t>(seen_ + entries_);
    const std::uint16_t before = credits_;
    if (returned_ == returned_shown_ && credits == before) return;
    const bool returns = returned_ != returned_shown_;
    returned_shown_ = returned_;
    credits_ = credits;
    // Release, both: pages, header slots and elements were read before the device hears that it may write them.
    auto* const release_index = reinterpret_cast<std::uint32_t*>(descriptor_area_ + vrx::marker_offset(entries_) +
                                                                 offsetof(vrx::Marker, release_index));
    if (returns) std::atomic_ref(*release_index).store(returned_, std::memory_order_release);
    if (credits != before) store(available_ring_ + offsetof(RingHeader, index), credits, std::memory_order_release);
    // Ours must be visible before we read the device's wishes, else both sides could wait for each other (4.6).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint16_t flags = load(used_ring_, std::memory_order_relaxed);
    bool wanted = returns && (flags & vrx::used_want_returns) != 0;
    if (credits != before) {
        if (!config_.event_index)
            wanted |= (flags & virtio::used_no_notify) == 0;
        else
            wanted |= virtio::passes_event(
                load(used_ring_ + virtio::available_event_offset(entries_), std::memory_order_relaxed), credits,
                before);
    }
    kick(wanted);
}

std::span<const std::byte> PagesPort::part(const LentFrame& frame, std::size_t index) const noexcept {
    auto page = static_cast<std::uint16_t>(frame.first);
    for (; index != 0; --index) page = places_[page].next;
    return region_.page(page).subspan(places_[page].offset, places_[page].length_bytes);
}

std::span<const std::byte> PagesPort::contiguous(const LentFrame& frame, std::span<std::byte> scratch) const noexcept {
    if (frame.parts == 1) return frame.bytes;
    std::size_t filled = 0;
    for_each_part(frame, [&](std::span<const std::byte> part) {
        const std::size_t fitting = std::min(part.size(), scratch.size() - filled);
        std::memcpy(scratch.data() + filled, part.data(), fitting);
        filled += fitting;
    });
    return scratch.first(filled);
}

void PagesPort::want_calls(bool wanted) noexcept {
    if (!config_.event_index)
        store(available_ring_, wanted ? 0 : virtio::available_no_interrupt, std::memory_order_relaxed);
    else if (wanted)  // left alone it asks for nothing more: the device has passed it
        store(available_ring_ + virtio::used_event_offset(entries_), seen_, std::memory_order_relaxed);
    if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace vitrine::guest
