#include "virtio/receive_ring.hpp"

#include "virtio/vrx_start.hpp"

namespace vitrine::virtio {
namespace {

std::string_view text_of(vrx::Refusal why) noexcept {
    switch (why) {
        case vrx::Refusal::not_offered:
            return "refused: its mode is not offered";
        case vrx::Refusal::unknown_version:
            return "refused: unknown version";
        case vrx::Refusal::too_small:
            return "refused: ring or buffers too small";
        case vrx::Refusal::other_region:
            return "refused: it maps another region";
        case vrx::Refusal::no_resources:
            return "refused: no resources";
        case vrx::Refusal::other:
            break;
    }
    return "refused";
}

}  // namespace

void ReceiveRing::decide() noexcept {
    if (auto* const split = std::get_if<ReceiveQueue>(&kind_))
        decide_split(*split);
    else if (auto* const packed = std::get_if<PackedReceiveQueue>(&kind_))
        decide_packed(*packed);
}

void ReceiveRing::decide_split(ReceiveQueue& standard) noexcept {
    if (!standard.has_waiting()) return;
    decided_ = true;
    const DeviceRing ring = standard.ring();
    const RingStart start = read_marker(ring, terms_.lending, terms_.queue);
    if (start.mode == vrx::Mode::pages) {
        const auto how = start.live ? PagesQueue::Start::live : PagesQueue::Start::fresh;
        kind_.emplace<PagesQueue>(*terms_.lending, terms_.queue, LendingRing(ring), how, counters_);
        return;
    }
    if (start.answer.none()) reclaim();
    if (start.mode == vrx::Mode::offset) {
        kind_.emplace<OffsetQueue>(memory_, ring, start.buffer_bytes, terms_.mergeable, counters_);
    } else if (!start.answer.none()) {
        ++counters_.rx_refused;
        kind_.emplace<Refused<DeviceRing>>(ring, start.answer);
    } else if (!ring.answer().none()) {
        standard.ring().set_answer({});  // it was to an earlier driver's marker (docs/vrx.md, 3.3)
    }
}

void ReceiveRing::decide_packed(PackedReceiveQueue& standard) noexcept {
    // Credits that were read before the stop: then no driver has started anew.
    const std::uint16_t read = stopped_pages_ ? standard.ring().waiting(0) : 0;
    if (read == 0 && standard.ring().waiting(1) == 0) {
        decided_ = standard.broken();
        return;
    }
    decided_ = true;
    RingStart start{};
    if (read == 0) start = read_marker(standard.ring(), terms_.lending, terms_.queue, terms_.packed_pages);
    const bool has_marker = start.mode == vrx::Mode::pages || !start.answer.none();
    if (!has_marker && !stopped_pages_) return reclaim();
    PackedDeviceRing ring = std::move(standard.ring());
    if (!start.answer.none()) {
        ++counters_.rx_refused;
        kind_.emplace<Refused<PackedDeviceRing>>(std::move(ring), start.answer);
        return;
    }
    const std::uint16_t most_pages = has_marker ? start.most_pages_of_frame : *stopped_pages_;
    const auto how = has_marker ? PackedPagesQueue::Start::fresh : PackedPagesQueue::Start::live;
    kind_.emplace<PackedPagesQueue>(*terms_.lending, terms_.queue, PackedLendingRing(std::move(ring), most_pages, read),
                                    how, counters_);
}

/// Whoever held pages of this queue is gone (7.1).
void ReceiveRing::reclaim() noexcept {
    DeviceSteps step;
    if (terms_.lending != nullptr && terms_.queue < terms_.lending->ledger().queues())
        counters_.rx_reclaimed += terms_.lending->reclaim(terms_.queue, step);
}

std::string_view ReceiveRing::text() const noexcept {
    if (broken()) return "broken";
    if (!decided_) return "no buffer seen yet";
    if (std::holds_alternative<PagesQueue>(kind_)) return "pages";
    if (std::holds_alternative<PackedPagesQueue>(kind_)) return "pages, packed";
    if (std::holds_alternative<OffsetQueue>(kind_)) return "offset";
    if (std::holds_alternative<PackedReceiveQueue>(kind_)) return "copy, packed";
    if (const auto* const refused = std::get_if<Refused<DeviceRing>>(&kind_))
        return text_of(refused->answer().refusal());
    if (const auto* const refused = std::get_if<Refused<PackedDeviceRing>>(&kind_))
        return text_of(refused->answer().refusal());
    return "copy";
}

}  // namespace vitrine::virtio
