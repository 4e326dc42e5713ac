#pragma once

#include <cstdint>
#include <string>

#include "mem/file_descriptor.hpp"

namespace vitrine::apps {

/// What the service manager said in our environment: see sd_notify(3). Empty when nobody is to be told.
struct NotifyEnvironment {
    std::string socket;              ///< a path, or an abstract name that begins with '@'
    bool watchdog_expected = false;  ///< by this process

    static NotifyEnvironment read();
};

/// Tells the service manager how things are. That nobody listens is no error: it is a note, and we are not its judge.
class Notifier {
public:
    explicit Notifier(const NotifyEnvironment& environment);

    void ready(const std::string& status);
    /// One line for people (systemctl status); sent when it is another one than before.
    void status(const std::string& status);
    /// Control thread, at least twice in the time that the manager allows: `poll_turns` are all turns of the poll
    /// thread so far. Only a process in which both threads move is alive.
    void alive(std::uint64_t poll_turns);
    void stopping();

private:
    void send(const std::string& message) noexcept;

    mem::FileDescriptor socket_;
    bool watchdog_expected_;
    std::string last_status_;
    std::uint64_t last_turns_ = 0;
};

}  // namespace vitrine::apps
