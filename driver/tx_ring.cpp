#include "driver/tx_ring.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>

namespace vitrine::driver {
namespace {

constexpr TxData plain_frame = TxData{}
                                   .with(TxData::type, TxData::data_type)
                                   .with(TxData::advanced, 1)
                                   .with(TxData::insert_crc, 1)
                                   .with(TxData::check_context, 1);
constexpr std::uint64_t ethernet_header_bytes = 14;

/// Relaxed: the tail write behind publishes it.
void store(std::uint64_t& word, std::uint64_t value) noexcept {
    std::atomic_ref(word).store(value, std::memory_order_relaxed);
}

}  // namespace

TxRing::TxRing(std::span<TxDescriptor> slots, Doorbell tail, std::uint16_t vlan)
    : slots_(slots), frames_(slots.size()), reports_(slots.size()), tail_(tail), vlan_(vlan) {
    assert(std::has_single_bit(slots.size()));
}

Sent TxRing::send(std::span<const Fragment> frame, std::uint64_t cookie) noexcept {
    std::uint32_t length_bytes = 0;
    if (!sendable(frame, length_bytes)) return Sent::refused;
    const bool needs_context = !has_context_;
    if (room() < frame.size() + needs_context) return Sent::no_room;
    if (needs_context) write_context();

    const TxData first = plain_frame.with(TxData::payload_bytes, length_bytes).with(TxData::insert_vlan, vlan_ != 0);
    for (const Fragment& fragment : frame) {
        const bool last = &fragment == &frame.back();
        TxDescriptor& slot = slots_[at(next_++)];
        store(slot.low, fragment.address.raw);
        store(slot.high, first.with(TxData::buffer_bytes, fragment.length_bytes).with(TxData::end_of_packet, last).raw);
    }
    frames_[at(next_frame_++)] = {.cookie = cookie, .end = next_};
    if (++frames_since_report_ == most_frames_without_report) report_last();
    return Sent::queued;
}

void TxRing::flush() noexcept {
    if (shown_ == next_) {
        tail_.settle();
        return;
    }
    if (frames_since_report_ != 0) report_last();  // an idle tail must complete
    shown_ = next_;
    tail_.ring(static_cast<std::uint32_t>(at(next_)));
}

std::size_t TxRing::reclaim(std::span<std::uint64_t> cookies) noexcept {
    while (oldest_report_ != next_report_) {
        const std::uint32_t frame = reports_[at(oldest_report_)];
        std::uint64_t& last = slots_[at(frames_[at(frame)].end - 1)].high;
        // Acquire: the caller may reuse the frame's memory once the NIC has reported it.
        const TxData word{{std::atomic_ref(last).load(std::memory_order_acquire)}};
        if (!word.get(TxData::done)) break;
        finished_frame_ = frame + 1;
        ++oldest_report_;
    }
    std::size_t count = 0;
    for (; count < cookies.size() && oldest_frame_ != finished_frame_; ++count) {
        const Frame& frame = frames_[at(oldest_frame_++)];
        cookies[count] = frame.cookie;
        free_from_ = frame.end;
    }
    return count;
}

bool TxRing::sendable(std::span<const Fragment> frame, std::uint32_t& length_bytes) noexcept {
    if (frame.size() > most_tx_fragments) {
        ++counters_.too_many_fragments;
        return false;
    }
    length_bytes = 0;
    for (const Fragment& fragment : frame) {
        if (fragment.length_bytes == 0 || fragment.address.raw == 0) {
            ++counters_.bad_fragment;
            return false;
        }
        if (fragment.length_bytes > most_tx_frame_bytes) {  // before the sum can wrap
            ++counters_.too_long;
            return false;
        }
        length_bytes += fragment.length_bytes;
    }
    counters_.too_short += length_bytes < least_tx_frame_bytes;
    counters_.too_long += length_bytes > most_tx_frame_bytes;
    return length_bytes >= least_tx_frame_bytes && length_bytes <= most_tx_frame_bytes;
}

void TxRing::write_context() noexcept {
    TxDescriptor& slot = slots_[at(next_++)];
    store(slot.low, TxContextHeaders{}
                        .with(TxContextHeaders::mac_header_bytes, ethernet_header_bytes)
                        .with(TxContextHeaders::vlan_tag, vlan_)
                        .raw);
    store(slot.high, TxContext{}.with(TxContext::type, TxContext::context_type).with(TxContext::advanced, 1).raw);
    has_context_ = true;
}

void TxRing::report_last() noexcept {
    TxDescriptor& last = slots_[at(next_ - 1)];
    store(last.high, TxData{{last.high}}.with(TxData::report_status, 1).raw);
    reports_[at(next_report_++)] = next_frame_ - 1;
    frames_since_report_ = 0;
}

void TxRing::restart() noexcept {
    next_ = shown_ = free_from_ = 0;
    next_frame_ = oldest_frame_ = finished_frame_ = 0;
    next_report_ = oldest_report_ = 0;
    frames_since_report_ = 0;
    has_context_ = false;
    tail_.forget();
}

}  // namespace vitrine::driver
