#include "apps/vitrine/event_loop.hpp"

#include <array>
#include <cerrno>
#include <sys/epoll.h>

namespace vitrine::apps {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) mem::throw_errno("epoll_create1");
}

void EventLoop::add(int descriptor, Callback callback) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) mem::throw_errno("epoll_ctl");
    callbacks_[descriptor] = std::move(callback);
}

void EventLoop::remove(int descriptor) noexcept {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
    callbacks_.erase(descriptor);
}

void EventLoop::run_once(std::chrono::milliseconds limit) {
    std::array<epoll_event, 16> ready;
    const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), static_cast<int>(limit.count()));
    if (count < 0 && errno != EINTR) mem::throw_errno("epoll_wait");
    for (int i = 0; i < count; ++i) {
        const auto found = callbacks_.find(ready[static_cast<std::size_t>(i)].data.fd);
        if (found == callbacks_.end()) continue;  // removed by a callback before this one
        const Callback callback = found->second;  // a copy: the callback may remove itself
        callback();
    }
}

}  // namespace vitrine::apps
