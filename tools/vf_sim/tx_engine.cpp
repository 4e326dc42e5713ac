#include "tools/vf_sim/tx_engine.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "tools/vf_sim/tx_rules.hpp"

namespace vitrine::vf_sim {

using namespace driver;

bool TxEngine::load(std::uint32_t index, TxDescriptor& descriptor) noexcept {
    std::byte* slot = memory_.at(queue_.slot(index), sizeof(TxDescriptor), DmaMap::Access::read);
    if (slot == nullptr) {
        expect(false, Rule::bad_dma);
        halt(counters_.halted_dma);
        return false;
    }
    auto* words = reinterpret_cast<std::uint64_t*>(slot);
    descriptor.low = std::atomic_ref(words[0]).load(std::memory_order_relaxed);
    descriptor.high = std::atomic_ref(words[1]).load(std::memory_order_relaxed);
    return true;
}

void TxEngine::halt(std::uint64_t& reason) noexcept {
    ++reason;
    halted_ = true;
}

void TxEngine::expect(bool kept, Rule rule) noexcept {
    if (rules_.expect(kept, rule)) queue_.block();
}

void TxEngine::enable() noexcept {
    halted_ = false;
    contexts_ = {};
    contexts_known_ = contexts_in_a_row_ = 0;
    unfinished_at_ = no_tail;
    rest_ = 0;
}

bool TxEngine::gather(std::uint32_t owned) noexcept {
    chain_.count = 0;
    // 7.2.1.1: a frame has at most 40 - WTHRESH - 2 descriptors.
    const std::uint32_t threshold = queue_.get<VFTXDCTL>().get(VFTXDCTL::write_back_threshold);
    const std::size_t limit = hardware_descriptors - 2 - std::min(threshold, 37u);
    while (chain_.count < owned) {
        if (chain_.count == limit) {
            expect(false, Rule::too_many_descriptors);
            halt(counters_.halted_chain);
            return false;
        }
        TxDescriptor& descriptor = chain_.descriptors[chain_.count];
        if (!load((queue_.head() + static_cast<std::uint32_t>(chain_.count)) % queue_.slots(), descriptor))
            return false;
        const TxData data{{descriptor.high}};
        if (data.get(TxData::advanced) == 0 || data.get(TxData::type) != TxData::data_type) {
            expect(false, data.get(TxData::advanced) == 0 ? Rule::legacy_descriptor : Rule::descriptor_type);
            halt(counters_.halted_descriptor);
            return false;
        }
        ++chain_.count;
        if (data.get(TxData::end_of_packet) != 0) return true;
    }
    if (std::exchange(unfinished_at_, queue_.tail()) != queue_.tail()) expect(false, Rule::tail_inside_frame);
    return false;  // the rest has not been posted yet
}

bool TxEngine::accept(const TxData& first) noexcept {
    total_ = 0;
    for (const TxDescriptor& descriptor : std::span(chain_.descriptors).first(chain_.count)) {
        const std::size_t bytes = TxData{{descriptor.high}}.get(TxData::buffer_bytes);
        total_ += bytes;
        if (bytes > 0 && !memory_.check({descriptor.low}, bytes, DmaMap::Access::read)) {
            expect(false, Rule::bad_dma);
            halt(counters_.halted_dma);
            return false;
        }
    }
    offload_ = Offload(contexts_[first.get(TxData::context) & 1], first);
    if (rules_.active()) hold_against_rules(first);
    if (queue_.blocked()) return false;
    if (!offload_.segment || !offload_.can_segment()) {
        if (total_ > most_frame_bytes) halt(counters_.halted_length);
        return !halted_;
    }
    const std::size_t header = offload_.header_bytes();
    if (total_ <= header || first.get(TxData::payload_bytes) != total_ - header ||
        header + offload_.segment_bytes > most_frame_bytes)
        halt(counters_.halted_length);
    return !halted_;
}

bool TxEngine::read(std::size_t offset, std::span<std::byte> to) noexcept {
    for (const TxDescriptor& descriptor : std::span(chain_.descriptors).first(chain_.count)) {
        const std::size_t there = TxData{{descriptor.high}}.get(TxData::buffer_bytes);
        const std::size_t bytes = offset < there ? std::min(there - offset, to.size()) : 0;
        if (bytes > 0 && !memory_.read(mem::Iova{descriptor.low} + offset, to.first(bytes))) {
            expect(false, Rule::bad_dma);  // it was there when the frame was taken
            halt(counters_.halted_dma);
            return false;
        }
        to = to.subspan(bytes);
        offset -= std::min(offset, there);
    }
    return to.empty();
}

bool TxEngine::read_whole() noexcept {
    const auto refuse = [](std::uint64_t& reason) {
        ++reason;
        return false;
    };
    rest_ = 0;
    length_ = total_;
    if (total_ < least_frame_bytes) return refuse(counters_.too_short);
    if (TxData{{chain_.descriptors[0].high}}.get(TxData::insert_crc) == 0) return refuse(counters_.no_crc);
    if (offload_.segment) return refuse(counters_.offload_refused);
    if (!read(0, std::span(frame_).first(length_))) return false;
    return offload_.insert_checksums(std::span(frame_).first(length_)) || refuse(counters_.offload_refused);
}

// The headers are read anew for each segment, as the hardware does.
bool TxEngine::read_segment() noexcept {
    const std::size_t header = offload_.header_bytes(), bytes = std::min(offload_.segment_bytes, rest_);
    length_ = header + bytes;
    const auto frame = std::span(frame_).first(length_);
    if (!read(0, frame.first(header)) || !read(total_ - rest_, frame.subspan(header))) {
        rest_ = 0;
        return false;
    }
    rest_ -= bytes;
    return offload_.finish_segment(frame, segments_++, rest_ == 0);
}

TxEngine::Frame TxEngine::next_piece() noexcept {
    Frame frame{.bytes = {}, .taken = true};
    const TxData first{{chain_.descriptors[0].high}};
    const bool good = rest_ > 0 ? read_segment() : read_whole();
    frame.report =
        rest_ == 0 && !halted_ && TxData{{chain_.descriptors[chain_.count - 1].high}}.get(TxData::report_status) != 0;
    if (!good) return frame;
    if (first.get(TxData::insert_vlan) != 0) insert_tag(offload_.vlan_tag);
    if (length_ < padded_frame_bytes) {
        std::fill_n(frame_.begin() + static_cast<std::ptrdiff_t>(length_), padded_frame_bytes - length_, std::byte{0});
        length_ = padded_frame_bytes;
    }
    frame.bytes = std::span(frame_).first(length_);
    return frame;
}

std::span<const std::byte> TxEngine::insert_tag(std::uint16_t tag) noexcept {
    std::byte* const at = frame_.data() + 12;
    std::memmove(at + 4, at, length_ - 12);
    at[0] = std::byte{0x81};
    at[1] = std::byte{0x00};
    at[2] = static_cast<std::byte>(tag >> 8);
    at[3] = static_cast<std::byte>(tag);
    length_ += 4;
    return std::span(frame_).first(length_);
}

void TxEngine::hold_against_rules(TxData first) noexcept {
    std::array<std::byte, Offload::most_header_bytes> beginning;
    const auto headers = std::span(beginning).first(std::min(total_, beginning.size()));
    if (rules_.strict()) watch_.use(static_cast<std::uint32_t>(chain_.count));
    if (!read(0, headers)) return;
    const bool known = (contexts_known_ >> (first.get(TxData::context) & 1) & 1) != 0;
    if (judge(rules_, {std::span(chain_.descriptors).first(chain_.count), offload_, known, total_, headers}))
        queue_.block();
}

void TxEngine::take_context(const TxDescriptor& descriptor, std::uint32_t owned) noexcept {
    const TxContext context{{descriptor.high}};
    const TxData flags{{descriptor.high}};
    const auto slot = static_cast<std::uint32_t>(context.get(TxContext::context));
    if (rules_.strict()) watch_.use(1);
    expect((flags.get(TxData::end_of_packet) | flags.get(TxData::report_status)) == 0, Rule::context_flags);
    expect(owned > 1, Rule::context_before_tail);
    expect(++contexts_in_a_row_ < 4, Rule::too_many_contexts);
    contexts_[slot] = descriptor;
    contexts_known_ |= 1u << slot;
    queue_.set_head((queue_.head() + 1) % queue_.slots());
}

TxEngine::Frame TxEngine::take() noexcept {
    if (halted_ || queue_.blocked()) return {};
    if (rest_ > 0) return next_piece();
    const std::uint32_t owned = queue_.owned();
    if (owned == 0) return {};
    TxDescriptor first;
    if (!load(queue_.head(), first)) return {};
    const TxContext context{{first.high}};
    if (context.get(TxContext::advanced) != 0 && context.get(TxContext::type) == TxContext::context_type) {
        take_context(first, owned);
        return {.bytes = {}, .taken = true};
    }
    if (!gather(owned) || !accept(TxData{{chain_.descriptors[0].high}})) return {};

    contexts_in_a_row_ = 0;
    report_slot_ = (queue_.head() + static_cast<std::uint32_t>(chain_.count) - 1) % queue_.slots();
    queue_.set_head((report_slot_ + 1) % queue_.slots());
    const bool segmented = offload_.segment && offload_.can_segment();
    rest_ = segmented ? total_ - offload_.header_bytes() : 0;
    segments_ = 0;
    return next_piece();
}

void TxEngine::complete(const Frame& frame) noexcept {
    if (!frame.report) return;
    std::byte* slot = memory_.at(queue_.slot(report_slot_), sizeof(TxDescriptor), DmaMap::Access::write);
    if (slot == nullptr) {
        expect(false, Rule::bad_dma);
        return halt(counters_.halted_dma);
    }
    // All 16 bytes are written, of which one bit means something (7.2.3.3): the driver's own data is gone.
    auto* words = reinterpret_cast<std::uint64_t*>(slot);
    std::atomic_ref(words[0]).store(0, std::memory_order_relaxed);
    std::atomic_ref(words[1]).store(TxData{}.with(TxData::done, 1).raw, std::memory_order_release);
}

}  // namespace vitrine::vf_sim
