#include "mem/handover.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>

namespace vitrine::mem {
namespace {

/// Blocks until the eventfd is signalled or `limit` passes; spurious wake-ups are the caller's loop.
void sleep_on(const EventFd& event, int limit_milliseconds) noexcept {
    pollfd entry{event.get(), POLLIN, 0};
    if (::poll(&entry, 1, limit_milliseconds) > 0) event.drain();
}

constexpr std::chrono::milliseconds patience_before_signal{100};

}  // namespace

Handover::Handover() {
    struct sigaction action{};
    action.sa_handler = [](int) {};  // without SA_RESTART: a system call ends
    ::sigaction(SIGUSR1, &action, nullptr);
}

Handover::Hold Handover::take(std::chrono::milliseconds limit) {
    if (depth_++ > 0) return Hold(*this);
    to_poller_.push_one(Token::take);
    request_event_.signal();
    const auto deadline = std::chrono::steady_clock::now() + limit;
    Token answer{};
    while (!to_control_.pop_one(answer)) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) {
            std::fputs("the poll thread does not stop: ending the process\n", stderr);
            std::abort();
        }
        sleep_on(taken_event_, static_cast<int>(std::min(left, patience_before_signal).count()));
        if (poll_thread_ && deadline - std::chrono::steady_clock::now() < limit - patience_before_signal)
            ::pthread_kill(*poll_thread_, SIGUSR1);
    }
    return Hold(*this);
}

void Handover::give_back() noexcept {
    if (--depth_ > 0) return;
    to_poller_.push_one(Token::given_back);
    given_back_event_.signal();
}

bool Handover::stand_by() noexcept {
    if (to_poller_.empty()) return false;
    Token token{};  // one at a time: behind a "given back" the next request may already wait
    to_poller_.pop_one(token);
    request_event_.drain();
    to_control_.push_one(Token::taken);
    taken_event_.signal();
    while (!to_poller_.pop_one(token)) sleep_on(given_back_event_, -1);
    return true;
}

}  // namespace vitrine::mem
