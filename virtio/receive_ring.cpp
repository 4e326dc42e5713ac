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
    auto& standard = std::get<ReceiveQueue>(kind_);
    if (!standard.has_buffers()) return;
    decided_ = true;
    const DeviceRing ring = standard.ring();
    const RingStart start = read_marker(ring, lending_, queue_);
    if (start.mode == vrx::Mode::pages) {
        const auto how = start.live ? PagesQueue::Start::live : PagesQueue::Start::fresh;
        kind_.emplace<PagesQueue>(*lending_, queue_, ring, how, counters_);
        return;
    }
    // Whoever held pages of this queue is gone (7.1).
    DeviceSteps step;
    if (lending_ != nullptr && start.answer.none() && queue_ < lending_->ledger().queues())
        counters_.rx_reclaimed += lending_->reclaim(queue_, step);
    if (start.mode == vrx::Mode::offset) {
        kind_.emplace<OffsetQueue>(memory_, ring, start.buffer_bytes, mergeable_, counters_);
    } else if (!start.answer.none()) {
        ++counters_.rx_refused;
        kind_.emplace<Refused>(ring, start.answer);
    } else if (!ring.answer().none()) {
        standard.clear_answer();
    }
}

std::string_view ReceiveRing::text() const noexcept {
    if (broken()) return "broken";
    if (!decided_) return "no buffer seen yet";
    if (std::holds_alternative<PagesQueue>(kind_)) return "pages";
    if (std::holds_alternative<OffsetQueue>(kind_)) return "offset";
    const auto* const refused = std::get_if<Refused>(&kind_);
    return refused != nullptr ? text_of(refused->answer().refusal()) : "copy";
}

}  // namespace vitrine::virtio
