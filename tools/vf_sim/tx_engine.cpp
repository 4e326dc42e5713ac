#include "tools/vf_sim/tx_engine.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace vitrine::vf_sim {

using namespace driver;

bool TxEngine::load(std::uint32_t index, TxDescriptor& descriptor) noexcept {
    std::byte* slot = memory_.at(queue_.slot(index), sizeof(TxDescriptor), DmaMap::Access::read);
    if (slot == nullptr) {
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

void TxEngine::enable() noexcept {
    halted_ = false;
    contexts_ = {};
}

TxEngine::Chain TxEngine::gather(std::uint32_t owned) noexcept {
    Chain chain;
    // 7.2.1.1: a frame has at most 40 - WTHRESH - 2 descriptors.
    const std::uint32_t threshold = queue_.get<VFTXDCTL>().get(VFTXDCTL::write_back_threshold);
    const std::size_t limit = hardware_descriptors - 2 - std::min(threshold, 37u);
    while (chain.count < owned) {
        if (chain.count == limit) {
            halt(counters_.halted_chain);
            return chain;
        }
        TxDescriptor& descriptor = chain.descriptors[chain.count];
        if (!load((queue_.head() + static_cast<std::uint32_t>(chain.count)) % queue_.slots(), descriptor)) return chain;
        const TxData data{{descriptor.high}};
        if (data.get(TxData::advanced) == 0 || data.get(TxData::type) != TxData::data_type) {
            halt(counters_.halted_descriptor);
            return chain;
        }
        ++chain.count;
        if (data.get(TxData::end_of_packet) != 0) {
            chain.complete = true;
            return chain;
        }
    }
    return chain;  // the rest has not been posted yet
}

bool TxEngine::copy_data(const Chain& chain) noexcept {
    length_ = 0;
    for (std::size_t i = 0; i < chain.count; ++i) {
        const std::size_t bytes = TxData{{chain.descriptors[i].high}}.get(TxData::buffer_bytes);
        if (bytes > most_frame_bytes - length_) {
            halt(counters_.halted_length);
            return false;
        }
        if (bytes > 0 && !memory_.read({chain.descriptors[i].low}, std::span(frame_).subspan(length_, bytes))) {
            halt(counters_.halted_dma);
            return false;
        }
        length_ += bytes;
    }
    return true;
}

bool TxEngine::finish(TxData first) noexcept {
    const auto refuse = [](std::uint64_t& reason) {
        ++reason;
        return false;
    };
    if (length_ < least_frame_bytes) return refuse(counters_.too_short);
    if (first.get(TxData::insert_crc) == 0) return refuse(counters_.no_crc);
    if ((first.get(TxData::segment) | first.get(TxData::ip_checksum) | first.get(TxData::l4_checksum)) != 0)
        return refuse(counters_.offload_refused);
    if (first.get(TxData::insert_vlan) != 0) {
        const TxDescriptor& context = contexts_[first.get(TxData::context) & 1];
        insert_tag(static_cast<std::uint16_t>(TxContextHeaders{{context.low}}.get(TxContextHeaders::vlan_tag)));
    }
    if (length_ < padded_frame_bytes) {
        std::fill(frame_.begin() + static_cast<std::ptrdiff_t>(length_), frame_.begin() + padded_frame_bytes,
                  std::byte{0});
        length_ = padded_frame_bytes;
    }
    return true;
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

TxEngine::Frame TxEngine::take() noexcept {
    const std::uint32_t owned = halted_ ? 0 : queue_.owned();
    if (owned == 0) return {};
    TxDescriptor first;
    if (!load(queue_.head(), first)) return {};
    const TxContext context{{first.high}};
    if (context.get(TxContext::advanced) != 0 && context.get(TxContext::type) == TxContext::context_type) {
        contexts_[context.get(TxContext::context)] = first;
        queue_.set_head((queue_.head() + 1) % queue_.slots());
        return {.bytes = {}, .taken = true};
    }
    const Chain chain = gather(owned);
    if (!chain.complete || !copy_data(chain)) return {};

    report_slot_ = (queue_.head() + static_cast<std::uint32_t>(chain.count) - 1) % queue_.slots();
    queue_.set_head((report_slot_ + 1) % queue_.slots());
    Frame frame{.bytes = {}, .taken = true};
    frame.report = TxData{{chain.descriptors[chain.count - 1].high}}.get(TxData::report_status) != 0;
    if (finish(TxData{{chain.descriptors[0].high}})) frame.bytes = std::span(frame_).first(length_);
    return frame;
}

void TxEngine::complete(const Frame& frame) noexcept {
    if (!frame.report) return;
    std::byte* slot = memory_.at(queue_.slot(report_slot_), sizeof(TxDescriptor), DmaMap::Access::write);
    if (slot == nullptr) return halt(counters_.halted_dma);
    // All 16 bytes are written, of which one bit means something (7.2.3.3): the driver's own data is gone.
    auto* words = reinterpret_cast<std::uint64_t*>(slot);
    std::atomic_ref(words[0]).store(0, std::memory_order_relaxed);
    std::atomic_ref(words[1]).store(TxData{}.with(TxData::done, 1).raw, std::memory_order_release);
}

}  // namespace vitrine::vf_sim
