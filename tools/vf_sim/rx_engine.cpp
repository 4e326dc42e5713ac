#include "tools/vf_sim/rx_engine.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::size_t most_buffers = 16;  // 16 KiB of frame in buffers of 1 KiB
constexpr std::size_t tag_at = 12, tag_bytes = 4;

/// The frame as one or two pieces of memory: two when the tag is cut out.
struct Pieces {
    std::span<const std::byte> first, second;

    std::size_t size() const { return first.size() + second.size(); }
    bool write(DmaMap& memory, mem::Iova to, std::size_t bytes) {
        const std::size_t head = std::min(bytes, first.size());
        if (head > 0 && !memory.write(to, first.first(head))) return false;
        first = first.subspan(head);
        const std::size_t rest = bytes - head;
        if (rest > 0 && !memory.write(to + head, second.first(rest))) return false;
        second = second.subspan(rest);
        return true;
    }
};

RxInfo describe(const FrameView& frame, std::optional<Rss::Hash> hash) {
    RxInfo info;
    if (frame.network == FrameView::Network::ipv4)
        info = info.with(RxInfo::ipv4, 1).with(RxInfo::ipv4_options, frame.options);
    if (frame.network == FrameView::Network::ipv6)
        info = info.with(RxInfo::ipv6, 1).with(RxInfo::ipv6_extensions, frame.options);
    if (frame.transport == FrameView::Transport::tcp) info = info.with(RxInfo::tcp, 1);
    if (frame.transport == FrameView::Transport::udp) info = info.with(RxInfo::udp, 1);
    if (frame.transport == FrameView::Transport::sctp) info = info.with(RxInfo::sctp, 1);
    if (hash) info = info.with(RxInfo::rss_type, hash->type).with(RxInfo::rss_hash, hash->value);
    return info;
}

void write_back(RxDescriptor& slot, RxInfo info, RxDone done) {
    std::atomic_ref(slot.page_iova).store(info.raw, std::memory_order_relaxed);
    std::atomic_ref(slot.done).store(done.raw, std::memory_order_release);
}

}  // namespace

RxOutcome write_frame(QueueRegisters& queue, DmaMap& memory, const FrameView& frame, const RxWrite& write) noexcept {
    const auto buffers = queue.get<VFSRRCTL>();
    const std::size_t buffer_bytes = std::min(buffers.get(VFSRRCTL::packet_buffer_kib), 16u) * 1024;
    if (buffer_bytes == 0 || buffers.get(VFSRRCTL::descriptor_type) != VFSRRCTL::advanced_one_buffer)
        return RxOutcome::no_descriptor;

    Pieces data{frame.bytes, {}};
    RxDone last = write.verdict.with(RxDone::done, 1).with(RxDone::end_of_packet, 1);
    const bool strip = queue.get<VFRXDCTL>().get(VFRXDCTL::strip_vlan) != 0;
    if (frame.tagged && (strip || write.hide_tag))
        data = {frame.bytes.first(tag_at), frame.bytes.subspan(tag_at + tag_bytes)};
    if (frame.tagged && !write.hide_tag)
        last = last.with(RxDone::vlan, 1).with(RxDone::vlan_tag, strip ? frame.tag : 0);

    const std::size_t needed = (data.size() + buffer_bytes - 1) / buffer_bytes;
    if (needed > most_buffers) return RxOutcome::too_long;
    if (queue.owned() < needed) return RxOutcome::no_descriptor;

    // Addresses are read once and checked to the last byte that the hardware may write, before anything is written.
    std::array<RxDescriptor*, most_buffers> slots;
    std::array<mem::Iova, most_buffers> addresses;
    for (std::size_t i = 0; i < needed; ++i) {
        const std::uint32_t index = (queue.head() + static_cast<std::uint32_t>(i)) % queue.slots();
        std::byte* slot = memory.at(queue.slot(index), sizeof(RxDescriptor), DmaMap::Access::write);
        if (slot == nullptr) return RxOutcome::dma_fault;
        slots[i] = reinterpret_cast<RxDescriptor*>(slot);
        addresses[i] = {std::atomic_ref(slots[i]->page_iova).load(std::memory_order_acquire)};
        const std::size_t bytes = i + 1 < needed ? buffer_bytes : data.size() - i * buffer_bytes;
        if (!memory.check(addresses[i], bytes, DmaMap::Access::write)) return RxOutcome::dma_fault;
    }
    std::size_t surplus = 0;
    for (std::size_t i = 0; i < needed; ++i) {
        const std::size_t bytes = std::min(data.size(), buffer_bytes);
        if (!data.write(memory, addresses[i], bytes)) return RxOutcome::dma_fault;
        const bool is_last = i + 1 == needed;
        const RxDone done = (is_last ? last : RxDone{}.with(RxDone::done, 1)).with(RxDone::length_bytes, bytes);
        const RxInfo info = is_last ? describe(frame, write.hash) : RxInfo{};
        if (write.faults == nullptr) {
            write_back(*slots[i], info, done);
            continue;
        }
        const auto spoil = [&](std::size_t number) {
            const std::uint32_t index = (queue.head() + static_cast<std::uint32_t>(number)) % queue.slots();
            write.spoiled->write(*write.faults, queue, queue.slot(index), info, done, memory);
        };
        spoil(i);
        if (is_last && write.faults->rx_duplicate && queue.owned() > needed) spoil(i + ++surplus);
    }
    queue.set_head((queue.head() + static_cast<std::uint32_t>(needed + surplus)) % queue.slots());
    return RxOutcome::delivered;
}

}  // namespace vitrine::vf_sim
