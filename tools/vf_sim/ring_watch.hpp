#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "driver/descriptors.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/interrupts.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/rules.hpp"

namespace vitrine::vf_sim {

/// Watches what a driver does to one queue, for the rules of sections 4, 5.6 and 6.3. It sees every store to the
/// registers; strict mode, which has all tails trapped, also remembers what was posted.
class RingWatch {
public:
    struct Surroundings {
        bool bus_master, reset_done, longest_frame_told;
        Time now;
    };

    RingWatch(Direction direction, QueueRegisters& queue, DmaMap& memory, Rules& rules)
        : direction_(direction), queue_(queue), memory_(memory), rules_(rules) {}

    /// Before `value` goes to `offset` of the queue's registers.
    void store(std::uint32_t offset, std::uint32_t value, const Surroundings& around) noexcept;
    void forget_programming() noexcept { programmed_ = 0; }
    /// The hardware is about to use the next `count` descriptors: they must be as they were posted.
    void use(std::uint32_t count) noexcept;
    /// A range of memory is about to be unmapped.
    void unmapping(mem::Iova address, std::uint64_t bytes, Time now) noexcept;

private:
    struct Posted {
        std::uint64_t low, high, sum;
    };

    void expect(bool kept, Rule rule) noexcept;
    void enabling(std::uint32_t control, const Surroundings& around) noexcept;
    void tail(std::uint32_t tail) noexcept;
    Posted look(std::uint32_t index) noexcept;
    std::uint64_t sum_of(const Posted& descriptor) noexcept;

    Direction direction_;
    QueueRegisters& queue_;
    DmaMap& memory_;
    Rules& rules_;
    std::uint32_t last_tail_ = 0;   // as the silicon keeps it, enabled or not
    std::uint32_t programmed_ = 0;  // one bit a register, since the last reset
    std::vector<Posted> posted_;    // by slot
    std::optional<Time> stopped_;   // of a receive queue
};

}  // namespace vitrine::vf_sim
