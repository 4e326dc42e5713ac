#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

/// When a run ends and when the next frame is due. Time is given, never asked for.
namespace vitrine::guest {

using Clock = std::chrono::steady_clock;

/// Why a run ended.
enum class Ending {
    count,         ///< all frames that were asked for
    seconds,       ///< the time is over
    idle,          ///< nothing moved any more
    nothing_came,  ///< not even a first frame
    signal,        ///< SIGINT or SIGTERM
    backend_gone,
    ring_broken,  ///< by a violation after which nothing can be trusted
};

class EndRule {
public:
    struct Limits {
        std::optional<std::uint64_t> frames{};
        std::optional<std::chrono::nanoseconds> time{};
        std::chrono::nanoseconds idle{};   ///< between two frames
        std::chrono::nanoseconds first{};  ///< until the first frame
    };

    EndRule(const Limits& limits, Clock::time_point start) : limits_(limits), start_(start), quiet_since_(start) {}

    /// Called often, with how many frames have moved since the start. `paused`: it is by our own will that none moves.
    std::optional<Ending> check(Clock::time_point now, std::uint64_t frames, bool paused = false);

    /// From the first frame to the last one.
    std::chrono::nanoseconds active() const { return last_ - first_; }

private:
    Limits limits_;
    Clock::time_point start_;
    Clock::time_point first_{};
    Clock::time_point last_{};
    Clock::time_point quiet_since_;
    std::uint64_t frames_ = 0;
};

/// Spreads frames evenly over time.
class Pacer {
public:
    /// `frames_per_second` 0: as fast as it goes.
    Pacer(std::uint64_t frames_per_second, Clock::time_point start) : rate_(frames_per_second), start_(start) {}

    /// True when frame number `frame`, counted from 0, may go.
    bool due(Clock::time_point now, std::uint64_t frame) const { return rate_ == 0 || now >= due_time(frame); }
    /// Without a rate: the start.
    Clock::time_point due_time(std::uint64_t frame) const;

private:
    std::uint64_t rate_;
    Clock::time_point start_;
};

}  // namespace vitrine::guest
