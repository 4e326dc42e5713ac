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

    EventLoop();
    /// Calls `callback` whenever `descriptor` is readable or hung up, until remove(). Throws std::system_error.
    void add(int descriptor, Callback callback);
    /// Before the descriptor is closed. Safe inside a callback, its own included.
    void remove(int descriptor) noexcept;
    /// Waits at most `limit` and runs what is ready.
    void run_once(std::chrono::milliseconds limit);

private:
    mem::FileDescriptor epoll_;
    std::map<int, Callback> callbacks_;
};

}  // namespace vitrine::apps
