#include "apps/vitrine/notify.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace vitrine::apps {
namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

/// Connected at once: later a sandbox would keep us from its path.
mem::FileDescriptor connect(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.empty() || name.size() >= sizeof(address.sun_path)) return {};
    std::memcpy(address.sun_path, name.data(), name.size());
    const bool abstract = name.front() == '@';
    if (abstract) address.sun_path[0] = '\0';
    const std::size_t bytes = offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1);
    mem::FileDescriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return {};
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(bytes)) != 0)
        return {};
    return socket;
}

}  // namespace

NotifyEnvironment NotifyEnvironment::read() {
    const std::string process = variable("WATCHDOG_PID");
    const bool ours = process.empty() || process == std::to_string(::getpid());
    return {variable("NOTIFY_SOCKET"), ours && !variable("WATCHDOG_USEC").empty()};
}

Notifier::Notifier(const NotifyEnvironment& environment)
    : socket_(connect(environment.socket)), watchdog_expected_(environment.watchdog_expected) {}

void Notifier::ready(const std::string& status) {
    last_status_ = status;
    send("READY=1\nSTATUS=" + status);
}

void Notifier::status(const std::string& status) {
    if (status == last_status_) return;
    last_status_ = status;
    send("STATUS=" + status);
}

void Notifier::alive(std::uint64_t poll_turns) {
    if (watchdog_expected_ && poll_turns != last_turns_) send("WATCHDOG=1");
    last_turns_ = poll_turns;
}

void Notifier::stopping() {
    send("STOPPING=1");
}

void Notifier::send(const std::string& message) noexcept {
    if (socket_) ::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace vitrine::apps
