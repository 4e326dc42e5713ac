#pragma once

#include <chrono>
#include <concepts>
#include <thread>

namespace vitrine::driver {

/// Monotonic time, given in so that tests need not wait for it.
template <class T>
concept Clock = requires(T clock, std::chrono::nanoseconds pause) {
    { clock.now() } -> std::same_as<std::chrono::nanoseconds>;
    clock.sleep_for(pause);
};

struct SteadyClock {
    std::chrono::nanoseconds now() const { return std::chrono::steady_clock::now().time_since_epoch(); }
    void sleep_for(std::chrono::nanoseconds pause) const { std::this_thread::sleep_for(pause); }
};

/// Asks `condition` every `step`, at least once, until it holds or `limit` has passed. Returns whether it held.
template <Clock C, std::predicate Condition>
bool wait_until(C& clock, std::chrono::nanoseconds limit, std::chrono::nanoseconds step, Condition condition) {
    const std::chrono::nanoseconds deadline = clock.now() + limit;
    while (!condition()) {
        if (clock.now() >= deadline) return false;
        clock.sleep_for(step);
    }
    return true;
}

}  // namespace vitrine::driver
