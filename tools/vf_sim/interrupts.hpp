#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "driver/registers.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::vf_sim {

using Time = std::chrono::steady_clock::time_point;

/// Causes, masks, throttling, and the three MSI-X vectors behind them (82599 data sheet, 7.3 and 8.3.5).
///
/// A message goes out once for a cause that is set and enabled, when the vector's throttle allows it; VTEIAC then
/// clears the cause and VTEIAM the enable bit. While a vector has no eventfd or is masked, its message waits in the
/// pending bits. MODEL: the MSI-X table in BAR3 is memory without effect, because vfio-user clients keep the real one
/// and mask with SET_IRQS. Throttling counts from the last message; the counters in VTEITR read 0, and so does its
/// CNT_WDIS.
class Interrupts {
public:
    /// Registers 0x0100 to 0x014b and 0x0820 to 0x0827.
    std::uint32_t load(std::uint32_t offset);
    void store(std::uint32_t offset, std::uint32_t value);

    void raise_rx(unsigned queue) noexcept { raise(queue_vector(queue, 0)); }
    void raise_tx(unsigned queue) noexcept { raise(queue_vector(queue, 8)); }
    void raise_mailbox() noexcept;
    /// Sends what is due.
    void deliver(Time now) noexcept;
    /// When a throttled message becomes due; nothing when none waits.
    std::optional<Time> due() const noexcept;

    /// SET_IRQS on vectors [start, start + count), which must exist.
    void assign(unsigned start, std::vector<mem::FileDescriptor> eventfds);
    void remove(unsigned start, unsigned count);
    void set_masked(unsigned vector, bool masked) { masked_[vector] = masked; }
    void trigger(unsigned vector) noexcept;
    std::uint32_t pending() const noexcept { return waiting_; }

    /// Registers only; the eventfds stay (they belong to the bus, not to the function).
    void reset_registers();

private:
    static constexpr std::uint32_t all_causes = driver::VTEICR::causes.mask;

    std::optional<unsigned> queue_vector(unsigned queue, unsigned shift) const noexcept;
    void raise(std::optional<unsigned> vector) noexcept;
    void set_causes(std::uint32_t causes) noexcept;
    bool ready(unsigned vector) const noexcept;

    std::array<mem::FileDescriptor, driver::vectors> eventfds_;
    std::array<bool, driver::vectors> masked_{};
    std::array<Time, driver::vectors> next_allowed_{};
    std::uint32_t causes_ = 0;      // VTEICR
    std::uint32_t enabled_ = 0;     // VTEIMS
    std::uint32_t auto_clear_ = 0;  // VTEIAC
    std::uint32_t auto_mask_ = 0;   // VTEIAM
    std::uint32_t waiting_ = 0;     // vectors whose message has not been sent for the present cause
    std::array<std::uint32_t, driver::VTIVAR::count> queue_vectors_{};
    std::uint32_t mailbox_vector_ = 0;  // VTIVAR_MISC
    std::array<std::uint32_t, driver::VTEITR::count> throttle_{};
    std::array<std::uint32_t, 2> coalescing_{};  // VTRSCINT, without effect
};

}  // namespace vitrine::vf_sim
