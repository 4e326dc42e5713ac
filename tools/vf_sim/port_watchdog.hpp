#pragma once

#include <chrono>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// LINUX: a PF of an 82599 or X540 looks every two seconds whether its link is down while any VF has frames to send.
/// They would never leave, because the hardware stops reading them, so it resets the port, with all functions on it.
class PortWatchdog {
public:
    static constexpr std::chrono::seconds period{2};
    static constexpr std::chrono::milliseconds reset_length{100};

    /// True when the port has to be reset now.
    bool expired(Time now, bool link_up, bool transmit_pending) noexcept {
        if (link_up || next_look_ == Time{}) next_look_ = now + period;
        if (link_up || now < next_look_) return false;
        next_look_ = now + period;
        return transmit_pending;
    }

private:
    Time next_look_{};
};

}  // namespace vitrine::vf_sim
