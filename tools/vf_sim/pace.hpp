#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// Gives out slots at a fixed rate. After a pause at most `burst` missed slots are made up for; the rest is gone, so
/// that a process that was not scheduled does not flood the VF.
class Pace {
public:
    explicit Pace(double per_second) : interval_(1e9 / per_second) {}

    bool ready(Time now) {
        if (!started_) {
            started_ = true;
            next_ = now;
        }
        next_ = std::max(next_, now - std::chrono::duration_cast<Time::duration>(interval_ * burst));
        return now >= next_;
    }
    void take() {
        // Fractions of a nanosecond add up at millions of frames a second.
        owed_ += interval_;
        const auto whole = std::chrono::duration_cast<Time::duration>(owed_);
        owed_ -= whole;
        next_ += whole;
    }
    Time next() const { return next_; }

private:
    static constexpr int burst = 32;

    std::chrono::duration<double, std::nano> interval_;
    std::chrono::duration<double, std::nano> owed_{0};
    Time next_{};
    bool started_ = false;
};

}  // namespace vitrine::vf_sim
