#include "apps/vitrine/event_loop.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <utility>

namespace vitrine::apps {

EventLoop::EventLoop(Now now) : now_(std::move(now)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) mem::throw_errno("epoll_create1");
}

void EventLoop::add(int descriptor, Callback callback) {
    watch(descriptor);
    callbacks_[descriptor] = std::move(callback);
}

void EventLoop::watch(int descriptor) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) mem::throw_errno("epoll_ctl");
}

void EventLoop::remove(int descriptor) noexcept {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
    callbacks_.erase(descriptor);
    resting_.erase(descriptor);
}

void EventLoop::rest(int descriptor, std::chrono::milliseconds length) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
    resting_[descriptor] = now_() + length;
}

void EventLoop::run_once(std::chrono::milliseconds limit) {
    for (auto resting = resting_.begin(); resting != resting_.end();) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(resting->second - now_());
        if (left.count() <= 0) {
            watch(resting->first);
            resting = resting_.erase(resting);
        } else {
            limit = std::min(limit, left);
            ++resting;
        }
    }
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
