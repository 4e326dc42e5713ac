#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

namespace vitrine::apps {

/// When to try again what failed: a second later, then twice as long each time, up to half a minute. What worked for
/// less than that counts as failing. Control thread.
class RetryPause {
public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr std::chrono::seconds first{1};
    static constexpr std::chrono::seconds longest{30};

    bool due(Time now) const { return now >= next_; }
    /// From the last failure to the next attempt.
    std::chrono::seconds length() const { return length_; }

    void failed(Time now) {
        if (works_since_ && now - *works_since_ >= longest) length_ = {};
        works_since_.reset();
        length_ = std::clamp(length_ * 2, first, longest);
        next_ = now + length_;
    }
    void worked(Time now) {
        if (!works_since_) works_since_ = now;
    }

private:
    std::optional<Time> works_since_;
    std::chrono::seconds length_{};
    Time next_{};
};

}  // namespace vitrine::apps
