#include "tools/vf_sim/queue_registers.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace driver;

/// Writable bits by register; 0 where there is none, where statistics lie, and for head and tail, which have rules.
constexpr std::array<std::uint32_t, 16> receive_mask{
    VFRDBAL::writable, all_ones, VFRDLEN::writable, all_ones, 0, all_ones, 0, 0, 0, 0, 0x4600'bfff, all_ones};
constexpr std::array<std::uint32_t, 16> transmit_mask{
    VFTDBAL::writable, all_ones, VFTDLEN::writable, all_ones, 0, 0, 0, 0, 0, 0, 0x027f'7f7f, 0, 0, 0,
    all_ones,          all_ones};

constexpr VFSRRCTL power_on_srrctl =
    VFSRRCTL{}.with(VFSRRCTL::packet_buffer_kib, 2).with(VFSRRCTL::header_buffer_64b, 4);
constexpr std::uint32_t power_on_dca_rx = 1u << 9 | 1u << 12 | 1u << 13 | 1u << 15;
constexpr std::uint32_t power_on_dca_tx = 1u << 9 | 1u << 11 | 1u << 13;
constexpr std::size_t dca_word = 3, srrctl_word = 5;

}  // namespace

std::uint32_t QueueRegisters::load(std::uint32_t offset) const noexcept {
    const std::size_t word = offset / 4;
    return word == tail_word ? tail() : words_[word];
}

void QueueRegisters::store(std::uint32_t offset, std::uint32_t value, bool usable) noexcept {
    const std::size_t word = offset / 4;
    if (word == head_word) {
        if (!enabled()) words_[head_word] = value & 0xffff;  // drivers write 0 before they enable
    } else if (word == tail_word) {
        if (enabled()) std::atomic_ref(tail_).store(value & 0xffff, std::memory_order_relaxed);
    } else if (word == control_word) {
        const bool was_enabled = enabled();
        words_[word] = value & (direction_ == Direction::receive ? receive_mask : transmit_mask)[word];
        if (!usable) words_[word] &= ~enable_bit;
        if (enabled() && !was_enabled) std::atomic_ref(tail_).store(head(), std::memory_order_relaxed);
    } else {
        words_[word] = value & (direction_ == Direction::receive ? receive_mask : transmit_mask)[word];
    }
}

void QueueRegisters::disable() noexcept {
    words_[control_word] &= ~enable_bit;
    blocked_ = false;
}

void QueueRegisters::reset() noexcept {
    words_ = {};
    blocked_ = false;
    words_[dca_word] = direction_ == Direction::receive ? power_on_dca_rx : power_on_dca_tx;
    if (direction_ == Direction::receive) words_[srrctl_word] = power_on_srrctl.raw;
    std::atomic_ref(tail_).store(0, std::memory_order_relaxed);
}

std::uint32_t QueueRegisters::owned() const noexcept {
    const std::uint32_t size = slots(), first = head(), end = tail();
    if (first >= size || end >= size || blocked_) return 0;
    return end >= first ? end - first : end + size - first;
}

}  // namespace vitrine::vf_sim
