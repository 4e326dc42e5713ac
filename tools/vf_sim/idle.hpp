#pragma once

#include <algorithm>
#include <chrono>
#include <utility>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// How long to sleep when there is nothing to do: not at all for a while, then in growing steps. A store to a shared
/// page wakes nobody, so the last step bounds how late a doorbell is seen.
class Idle {
public:
    static constexpr std::chrono::microseconds spin{50}, first_step{10}, last_step{200};

    /// Zero: go on polling.
    std::chrono::microseconds pause(Time now, bool worked) {
        if (worked || last_work_ == Time{}) {
            last_work_ = now;
            step_ = first_step;
        }
        if (now - last_work_ < spin) return std::chrono::microseconds{0};
        return std::exchange(step_, std::min(2 * step_, last_step));
    }

private:
    Time last_work_{};
    std::chrono::microseconds step_ = first_step;
};

}  // namespace vitrine::vf_sim
