#include "apps/guest/schedule.hpp"

namespace vitrine::guest {

std::optional<Ending> EndRule::check(Clock::time_point now, std::uint64_t frames, bool paused) {
    if (frames != frames_) {
        if (frames_ == 0) first_ = now;
        frames_ = frames;
        last_ = quiet_since_ = now;
    }
    if (paused) quiet_since_ = now;
    if (limits_.frames && frames >= *limits_.frames) return Ending::count;
    if (limits_.time && now - start_ >= *limits_.time) return Ending::seconds;
    if (frames_ != 0) return now - quiet_since_ >= limits_.idle ? std::optional(Ending::idle) : std::nullopt;
    // Who asked for a time waits that time.
    if (!limits_.time && now - quiet_since_ >= limits_.first) return Ending::nothing_came;
    return std::nullopt;
}

Clock::time_point Pacer::due_time(std::uint64_t frame) const {
    if (rate_ == 0) return start_;
    // Whole seconds apart, so that the product cannot overflow.
    const std::chrono::seconds seconds(frame / rate_);
    const std::chrono::nanoseconds rest(frame % rate_ * 1'000'000'000 / rate_);
    return start_ + seconds + rest;
}

}  // namespace vitrine::guest
