#include "tools/vf_sim/ring_watch.hpp"

#include <array>
#include <atomic>

#include "tools/vf_sim/checksums.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::uint32_t base_low = 0, base_high = 1, length = 2, head = 4, srrctl = 5, tail_word = 6, control_word = 10,
                        write_back_low = 14, write_back_high = 15;
constexpr std::uint32_t bit(std::uint32_t word) {
    return 1u << word;
}
constexpr std::uint32_t ring = bit(base_low) | bit(base_high) | bit(length);
/// What a reset leaves as it was, and a driver must therefore write.
constexpr std::uint32_t receive_registers = ring | bit(head) | bit(srrctl),
                        transmit_registers = ring | bit(head) | bit(write_back_low);
constexpr std::uint32_t fixed_while_receiving = ring | bit(srrctl),
                        fixed_while_sending = ring | bit(write_back_low) | bit(write_back_high);
constexpr std::chrono::microseconds frames_on_their_way{100};

}  // namespace

void RingWatch::expect(bool kept, Rule rule) noexcept {
    if (rules_.expect(kept, rule)) queue_.block();
}

void RingWatch::store(std::uint32_t offset, std::uint32_t value, const Surroundings& around) noexcept {
    const std::uint32_t word = offset / 4;
    const bool receive = direction_ == Direction::receive, enables = (value & QueueRegisters::enable_bit) != 0;
    if (word == tail_word) return tail(value & 0xffff);
    if (word == control_word) {
        if (enables && !queue_.enabled()) enabling(value, around);
        if (!enables && queue_.enabled() && receive) stopped_ = around.now;
        return;
    }
    programmed_ |= bit(word);
    const std::uint32_t fixed = receive ? fixed_while_receiving : fixed_while_sending;
    expect(!queue_.enabled() || (fixed & bit(word)) == 0, Rule::written_while_enabled);
    expect(word != base_low || value % ring_alignment_bytes == 0, Rule::ring_alignment);
    expect(word != length || value % ring_alignment_bytes == 0, Rule::ring_length);
}

void RingWatch::enabling(std::uint32_t control, const Surroundings& around) noexcept {
    const bool receive = direction_ == Direction::receive;
    const std::uint32_t needed = receive ? receive_registers : transmit_registers;
    expect(around.bus_master, Rule::bus_master);
    expect(around.reset_done, Rule::before_reset);
    expect((programmed_ & needed) == needed, Rule::not_programmed);
    expect(queue_.slots() > 0, Rule::ring_length);
    expect(last_tail_ == queue_.head(), Rule::early_tail);
    posted_.assign(queue_.slots(), {});
    if (receive) {
        const auto buffers = queue_.get<VFSRRCTL>();
        const std::uint32_t kib = buffers.get(VFSRRCTL::packet_buffer_kib);
        expect(around.longest_frame_told, Rule::no_longest_frame);
        expect(kib >= 1 && kib <= 16, Rule::buffer_size);
        expect(buffers.get(VFSRRCTL::descriptor_type) == VFSRRCTL::advanced_one_buffer, Rule::descriptor_split);
        return;
    }
    const VFTXDCTL thresholds{{control}};
    const std::uint32_t prefetch = thresholds.get(VFTXDCTL::prefetch_threshold),
                        write_back = thresholds.get(VFTXDCTL::write_back_threshold);
    expect(prefetch + write_back <= 40 && (prefetch == 0 || thresholds.get(VFTXDCTL::host_threshold) != 0),
           Rule::thresholds);
    expect(queue_.get<VFTDWBAL>().get(VFTDWBAL::enable) == 0 || write_back == 0, Rule::head_write_back);
}

void RingWatch::tail(std::uint32_t tail) noexcept {
    last_tail_ = tail;
    if (!rules_.strict() || !queue_.enabled()) return;
    const std::uint32_t slots = queue_.slots(), before = queue_.tail();
    expect(tail < slots, Rule::wild_tail);
    if (tail >= slots || before >= slots || posted_.size() != slots) return;
    const std::uint32_t fresh = (tail + slots - before) % slots;
    expect(queue_.owned() + fresh < slots, Rule::overfull);
    for (std::uint32_t i = 0; i < fresh; ++i) {
        const std::uint32_t index = (before + i) % slots;
        posted_[index] = look(index);
        if (direction_ == Direction::transmit) continue;
        const std::uint64_t address = posted_[index].low;
        expect(address != 0, Rule::null_address);
        expect(address % 2 == 0, Rule::odd_address);
        for (std::uint32_t other = queue_.head(); other != index; other = (other + 1) % slots)
            if (posted_[other].low == address) {
                expect(false, Rule::posted_twice);
                break;
            }
    }
}

RingWatch::Posted RingWatch::look(std::uint32_t index) noexcept {
    std::byte* slot = memory_.at(queue_.slot(index), sizeof(TxDescriptor), DmaMap::Access::read);
    if (slot == nullptr) return {};
    auto* words = reinterpret_cast<std::uint64_t*>(slot);
    Posted found{std::atomic_ref(words[0]).load(std::memory_order_relaxed), 0, 0};
    if (direction_ == Direction::receive) return found;  // the other word is the driver's
    found.high = std::atomic_ref(words[1]).load(std::memory_order_relaxed);
    found.sum = sum_of(found);
    return found;
}

/// Something that changes when a buffer that is to be sent does.
std::uint64_t RingWatch::sum_of(const Posted& descriptor) noexcept {
    const TxData data{{descriptor.high}};
    if (data.get(TxData::advanced) == 0 || data.get(TxData::type) != TxData::data_type) return 0;
    std::array<std::byte, 1024> piece;
    std::uint64_t sum = 0, left = data.get(TxData::buffer_bytes);
    for (mem::Iova from{descriptor.low}; left > 0; from = from + piece.size()) {
        const auto part = std::span(piece).first(std::min<std::size_t>(left, piece.size()));
        if (!memory_.read(from, part)) return 0;
        sum = sum * 31 + internet_sum(part);
        left -= part.size();
    }
    return sum;
}

void RingWatch::use(std::uint32_t count) noexcept {
    const std::uint32_t slots = queue_.slots();
    if (posted_.size() != slots) return;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t index = (queue_.head() + i) % slots;
        const Posted now = look(index), &before = posted_[index];
        const bool same = now.low == before.low && now.high == before.high;
        expect(same, Rule::changed_descriptor);
        expect(!same || now.sum == before.sum, Rule::changed_buffer);
    }
}

void RingWatch::unmapping(mem::Iova address, std::uint64_t bytes, Time now) noexcept {
    const bool fresh = stopped_ && now - *stopped_ < frames_on_their_way;
    if (!queue_.enabled() && !fresh) return;
    const auto goes = [&](std::uint64_t at) { return at >= address.raw && at - address.raw < bytes; };
    bool ours = goes(queue_.base().raw);
    const std::uint32_t owned = queue_.owned(), slots = queue_.slots();
    for (std::uint32_t i = 0; i < owned && posted_.size() == slots; ++i)
        ours |= goes(posted_[(queue_.head() + i) % slots].low);
    if (ours) expect(false, queue_.enabled() ? Rule::unmapped_while_enabled : Rule::freed_too_early);
}

}  // namespace vitrine::vf_sim
