#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// The PF's limit on one transmit queue: a bucket that fills with time and may be overdrawn by one frame.
/// MODEL: silicon spaces frames evenly; here up to a millisecond's worth, or two long frames, may leave in one go.
class RateLimit {
public:
    bool allows(unsigned mbps) const noexcept { return mbps == 0 || bits_ > 0; }
    /// With preamble, CRC and gap, as the wire counts.
    void spend(std::size_t frame_bytes) noexcept { bits_ -= static_cast<double>(frame_bytes + 24) * 8; }
    void advance(Time now, unsigned mbps) noexcept {
        constexpr double two_long_frames = 2 * 9728 * 8;
        const double passed_us = std::chrono::duration<double, std::micro>(now - filled_).count();
        bits_ = std::min(bits_ + passed_us * mbps, std::max(two_long_frames, 1000.0 * mbps));
        filled_ = now;
    }
    /// When a frame may go again.
    Time due(unsigned mbps) const noexcept {
        return filled_ + std::chrono::nanoseconds(1 + static_cast<long>(-bits_ * 1000 / mbps));
    }

private:
    double bits_ = 0;
    Time filled_{};
};

}  // namespace vitrine::vf_sim
