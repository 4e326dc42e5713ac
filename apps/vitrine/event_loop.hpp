#pragma once

#include <chrono>
#include <functional>
#include <map>

#include "mem/file_descriptor.hpp"

namespace vitrine::apps {

/// The control thread's wait: one callback for each readable descriptor.
class EventLoop {
public:
    using Callback = std::function<void()>;
    using Time = std::chrono::steady_clock::time_point;
    using Now = std::function<Time()>;

    explicit EventLoop(Now now = std::chrono::steady_clock::now);
    /// Calls `callback` whenever `descriptor` is readable or hung up, until remove(). Throws std::system_error.
    void add(int descriptor, Callback callback);
    /// Before the descriptor is closed. Safe inside a callback, its own included.
    void remove(int descriptor) noexcept;
    /// No call for `descriptor` for that long, though it stays readable: what it has cannot be taken now. For
    /// callbacks.
    void rest(int descriptor, std::chrono::milliseconds length);
    /// Waits at most `limit` and runs what is ready.
    void run_once(std::chrono::milliseconds limit);

private:
    void watch(int descriptor);

    Now now_;
    mem::FileDescriptor epoll_;
    std::map<int, Callback> callbacks_;
    std::map<int, Time> resting_;
};

}  // namespace vitrine::apps
