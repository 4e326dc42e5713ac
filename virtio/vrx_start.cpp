#include "virtio/vrx_start.hpp"

#include <atomic>
#include <bit>

#include "virtio/packed_vrx.hpp"

namespace vitrine::virtio {
namespace {

using vrx::Answer;
using vrx::Marker;
using vrx::Mode;
using vrx::Refusal;

/// Each half read once. The descriptor table is 16-byte aligned.
Marker load_marker(const DeviceRing& ring) noexcept {
    struct Halves {
        std::uint64_t low;
        std::uint64_t high;
    };
    auto* const words = reinterpret_cast<std::uint64_t*>(ring.where().descriptors + vrx::marker_offset(ring.entries()));
    return std::bit_cast<Marker>(Halves{std::atomic_ref(words[0]).load(std::memory_order_relaxed),
                                        std::atomic_ref(words[1]).load(std::memory_order_relaxed)});
}

RingStart refuse(Refusal why) {
    return {.answer = Answer::refused(why)};
}

std::uint32_t offered_modes(const PageLending* lending, unsigned queue) {
    return lending != nullptr && queue < lending->ledger().queues() ? lending->modes() : 0;
}

}  // namespace

RingStart read_marker(const DeviceRing& ring, const PageLending* lending, unsigned queue) noexcept {
    const Marker marker = load_marker(ring);
    if (!marker.has_magic()) return {};
    // Its driver may have read that, and be on its way to come back without marker (3.4).
    if (ring.answer().is_refusal()) return {.answer = ring.answer()};
    const std::uint32_t wanted = marker.mode_and_version & 0xff;
    if (marker.mode_and_version >> 8 != Marker::version) return refuse(Refusal::unknown_version);

    const std::uint32_t modes = offered_modes(lending, queue);
    const bool pages = wanted == static_cast<std::uint32_t>(Mode::pages) && (modes & mem::InfoPage::offers_pages) != 0;
    const bool offset =
        wanted == static_cast<std::uint32_t>(Mode::offset) && (modes & mem::InfoPage::offers_offset) != 0;
    if (!pages && !offset) return refuse(Refusal::not_offered);
    if (ring.entries() < vrx::fewest_entries) return refuse(Refusal::too_small);
    // A guest that maps another file than ours would read other bytes than the frame's.
    if (marker.region_tag() != lending->region_tag()) return refuse(Refusal::other_region);
    if (pages) return {.mode = Mode::pages, .live = ring.answer() == Answer::granted(Mode::pages)};
    if (marker.release_index < vrx::fewest_buffer_bytes) return refuse(Refusal::too_small);
    return {.mode = Mode::offset, .buffer_bytes = marker.release_index};
}

RingStart read_marker(const PackedDeviceRing& ring, const PageLending* lending, unsigned queue, bool agreed) noexcept {
    std::uint16_t id = 0;
    const std::optional<Descriptor> descriptor = ring.single(ring.next(), id);
    if (!descriptor) return {};
    const RingStart no_marker{.credit = descriptor->length_bytes == 0};
    if (id != vrx::PackedMarker::id) return no_marker;
    const Marker marker{.magic_and_tag = descriptor->address,
                        .mode_and_version = descriptor->length_bytes & 0xffff,
                        .release_index = 0};
    if (!marker.has_magic()) return no_marker;
    if (marker.mode_and_version >> 8 != Marker::version) return refuse(Refusal::unknown_version);
    const bool offered = agreed && (offered_modes(lending, queue) & mem::InfoPage::offers_packed_pages) != 0;
    if ((marker.mode_and_version & 0xff) != static_cast<std::uint32_t>(Mode::pages) || !offered)
        return refuse(Refusal::not_offered);
    const auto most_pages = static_cast<std::uint16_t>(descriptor->length_bytes >> 16);
    if (most_pages == 0 || most_pages + vrx::reserved_slots(most_pages) > ring.entries())
        return refuse(Refusal::too_small);
    if (marker.region_tag() != lending->region_tag()) return refuse(Refusal::other_region);
    return {.mode = Mode::pages, .most_pages_of_frame = most_pages};
}

void answer_marker(DeviceRing& ring, Answer answer) noexcept {
    ring.set_answer(answer);
}

void answer_marker(PackedDeviceRing& ring, Answer answer) noexcept {
    ring.take(1);
    ring.give_back(vrx::PackedMarker::id, answer.raw, 0);
    ring.owe_call();
}

}  // namespace vitrine::virtio
