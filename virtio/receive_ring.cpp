#include "virtio/receive_ring.hpp"

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
        refuse(ring, start.answer);
    } else if (!ring.answer().none()) {
        standard.ring().set_answer({});  // it was to an earlier driver's marker (docs/vrx.md, 3.3)
    }
}

void ReceiveRing::decide_packed(PackedReceiveQueue& standard) noexcept {
    decided_ = standard.ring().waiting(1) != 0 || standard.broken();
    if (!decided_ || standard.broken()) return;
    const RingStart start = read_marker(standard.ring(), terms_.lending, terms_.queue, terms_.packed_pages);
    if (start.mode == vrx::Mode::pages)
        lend_packed(PackedPagesQueue::Start::fresh, start.most_pages_of_frame, 0);
    else if (!start.answer.none())
        refuse(std::move(standard.ring()), start.answer);
    else if (!start.credit)
        reclaim();
    else if (stopped_pages_)
        lend_packed(PackedPagesQueue::Start::live, *stopped_pages_, 0);
    else
        standard.ring().break_ring();  // its driver holds pages, and nothing says of how large frames (9.5)
}

/// Where the ring stopped. Credits that were read before are those of a driver that has not started anew; without one,
/// the next chain tells.
void ReceiveRing::go_on() noexcept {
    const std::uint16_t read = std::get<PackedReceiveQueue>(kind_).ring().waiting(0);
    decided_ = read != 0;
    if (decided_) lend_packed(PackedPagesQueue::Start::live, *stopped_pages_, read);
}

void ReceiveRing::lend_packed(PackedPagesQueue::Start how, std::uint16_t most_pages_of_frame,
                              std::uint16_t read) noexcept {
    PackedLendingRing ring(std::move(std::get<PackedReceiveQueue>(kind_).ring()), most_pages_of_frame, read);
    kind_.emplace<PackedPagesQueue>(*terms_.lending, terms_.queue, std::move(ring), how, counters_);
}

template <class Ring>
void ReceiveRing::refuse(Ring ring, vrx::Answer answer) noexcept {
    ++counters_.rx_refused;
    kind_.emplace<RefusedQueue<Ring>>(std::move(ring), answer);
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
    if (const auto* const refused = std::get_if<RefusedQueue<DeviceRing>>(&kind_))
        return text_of(refused->answer().refusal());
    if (const auto* const refused = std::get_if<RefusedQueue<PackedDeviceRing>>(&kind_))
        return text_of(refused->answer().refusal());
    return "copy";
}

}  // namespace vitrine::virtio
