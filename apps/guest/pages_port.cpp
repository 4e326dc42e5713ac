#include "apps/guest/pages_port.hpp"

#include <atomic>
#include <cassert>
#include <cstring>

namespace vitrine::guest {

namespace vrx = virtio::vrx;
using virtio::RingHeader;
using vrx::UsedPage;

static_assert(UsedPage::next == std::uint64_t{PageElement::Flag::next} << 52 &&
              UsedPage::header == std::uint64_t{PageElement::Flag::header} << 52 &&
              UsedPage::checksum_ok == std::uint64_t{PageElement::Flag::checksum_ok} << 52);

PagesPort::PagesPort(GuestRam& ram, const PageRegion& region, const Config& config)
    : PagesEnd(region, config.entries, ram, config.entries), config_(config) {
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

std::optional<PageElement> PagesPort::next_element() noexcept {
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
    ++seen_;
    return PageElement{
        .page = word.page(), .offset = word.offset(), .length_bytes = word.length_bytes(), .flags = word.raw >> 52};
}

void PagesPort::release(const LentFrame& frame) noexcept {
    let_go(frame, [this](std::uint16_t page) {
        const std::size_t slot = returned_++ & (vrx::release_entries(entries_) - 1);
        store(descriptor_area_ + 2 * slot, page, std::memory_order_relaxed);
        given_back(page);
    });
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

void PagesPort::want_calls(bool wanted) noexcept {
    if (!config_.event_index)
        store(available_ring_, wanted ? 0 : virtio::available_no_interrupt, std::memory_order_relaxed);
    else if (wanted)  // left alone it asks for nothing more: the device has passed it
        store(available_ring_ + virtio::used_event_offset(entries_), seen_, std::memory_order_relaxed);
    if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace vitrine::guest
