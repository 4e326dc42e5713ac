#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "driver/descriptors.hpp"
#include "driver/registers.hpp"
#include "mem/address.hpp"

namespace vitrine::vf_sim {

enum class Direction { receive, transmit };

/// The 16 registers of one queue, 0x40 bytes. The tail lives elsewhere: the client may be able to write it by mapping.
///
/// A tail counts from the moment of ENABLE on: enabling makes tail equal to head (an empty ring), which is how a tail
/// written before is ignored.
class QueueRegisters {
public:
    static constexpr std::uint32_t enable_bit = driver::VFRXDCTL::enable.mask;
    static_assert(enable_bit == driver::VFTXDCTL::enable.mask);

    QueueRegisters(Direction direction, std::uint32_t& tail) : direction_(direction), tail_(tail) {}

    /// `offset` is within the queue's 0x40 bytes, a multiple of 4.
    std::uint32_t load(std::uint32_t offset) const noexcept;
    /// `usable` false: a queue that the VF does not have; it keeps what is written but never becomes enabled.
    void store(std::uint32_t offset, std::uint32_t value, bool usable) noexcept;
    void disable() noexcept;
    /// Malicious-driver detection: enabled as before, but nothing moves. MODEL: until the VF is reset; silicon waits
    /// for its PF.
    void block() noexcept { blocked_ = true; }
    bool blocked() const noexcept { return blocked_; }
    void reset() noexcept;  ///< to the values after a PF reset

    template <class R>
    R get() const noexcept {
        return R{{words_[(R::at(0) % driver::queue_stride) / 4]}};
    }
    bool enabled() const noexcept { return (words_[control_word] & enable_bit) != 0; }
    mem::Iova base() const noexcept { return {words_[0] | std::uint64_t{words_[1]} << 32}; }
    std::uint32_t slots() const noexcept { return words_[2] / sizeof(driver::RxDescriptor); }
    std::uint32_t head() const noexcept { return words_[head_word]; }
    void set_head(std::uint32_t head) noexcept { words_[head_word] = head; }
    /// Read once; whatever the client last wrote.
    std::uint32_t tail() const noexcept { return std::atomic_ref(tail_).load(std::memory_order_acquire) & 0xffff; }
    /// How many slots the hardware owns: [head, tail). 0 too when head or tail is not in the ring, or when blocked.
    std::uint32_t owned() const noexcept;
    mem::Iova slot(std::uint32_t index) const noexcept {
        return base() + std::uint64_t{index} * sizeof(driver::RxDescriptor);
    }

private:
    static constexpr std::size_t head_word = 4, tail_word = 6, control_word = 10;

    Direction direction_;
    std::uint32_t& tail_;
    std::array<std::uint32_t, 16> words_{};
    bool blocked_ = false;
};

}  // namespace vitrine::vf_sim
