#include "apps/vitrine/poller.hpp"

#include <array>
#include <poll.h>

#include "apps/vitrine/options.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::apps {
namespace {

using Clock = std::chrono::steady_clock;

/// No sleep is longer: a lost notification costs a second, not a hang.
constexpr int longest_sleep_milliseconds = 1000;
/// While something must be polled for: a ring without kick, a frame that the NIC has not sent, a refused tail write.
constexpr int shortest_sleep_milliseconds = 1;

/// One writer: a plain increment that other threads may read.
void count(std::atomic<std::uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

Poller::Poller(virtio::Device& device, std::vector<std::unique_ptr<Pair>>& pairs, IdlePolicy idle, Tunnel* tunnel)
    : device_(device), pairs_(pairs), idle_policy_(idle), tunnel_(tunnel) {}

Poller::~Poller() {
    if (!thread_.joinable()) return;
    {
        const mem::Handover::Hold hold = handover_.take();
        stop_.store(true, std::memory_order_relaxed);
    }
    thread_.join();
}

void Poller::start(const std::function<void()>& first) {
    thread_ = std::thread([this, first] {
        first();
        run();
    });
    handover_.set_poll_thread(thread_.native_handle());
}

Poller::Turns Poller::turns() const {
    return {busy_turns_.load(std::memory_order_relaxed), idle_turns_.load(std::memory_order_relaxed),
            sleeps_.load(std::memory_order_relaxed)};
}

void Poller::run() noexcept {
    Clock::time_point idle_since{};
    bool idle = false;
    while (!stop_.load(std::memory_order_relaxed)) {
        handover_.stand_by();
        if (poll() != 0) {
            idle = false;
            count(busy_turns_);
            continue;
        }
        count(idle_turns_);
        if (idle_policy_.never_sleep) continue;
        const Clock::time_point now = Clock::now();
        if (!idle) idle_since = now;
        idle = true;
        if (now - idle_since >= idle_policy_.spin) sleep();
    }
}

std::size_t Poller::poll() noexcept {
    std::size_t work = 0;
    if (tunnel_ != nullptr && vf_interrupt_) tunnel_->tick(Clock::now());  // no system call: the clock is mapped
    for (const auto& pair : pairs_) work += pair->receive.poll() + pair->transmit.poll();
    return work;
}

/// Asks for every notification that can end the idleness, looks once more, and only then sleeps.
void Poller::sleep() noexcept {
    want_kicks(true);
    int limit = longest_sleep_milliseconds;
    if (vf_interrupt_ && !vf_interrupt_->source.arm()) limit = shortest_sleep_milliseconds;
    if (poll() == 0) {
        std::array<pollfd, 2 + 2 * most_pairs> wait_for{};
        nfds_t waits = 0;
        const auto add = [&](int descriptor) { wait_for[waits++] = {descriptor, POLLIN, 0}; };
        add(handover_.wake_descriptor());
        if (vf_interrupt_) add(vf_interrupt_->event);
        for (unsigned number = 0; number < pairs_.size(); ++number) {
            if (pairs_[number]->transmit.in_nic() || !pairs_[number]->receive.settled())
                limit = shortest_sleep_milliseconds;
            if (virtio::TransmitRing* queue = device_.transmit(number)) {
                if (queue->kick_descriptor() < 0) limit = shortest_sleep_milliseconds;
                add(queue->kick_descriptor());
            }
            virtio::ReceiveRing* queue = pairs_[number]->receive.guest_queue();
            if (queue != nullptr && pairs_[number]->receive.wants_buffers()) {
                if (queue->kick_descriptor() < 0) limit = shortest_sleep_milliseconds;
                add(queue->kick_descriptor());
            }
        }
        count(sleeps_);
        ::poll(wait_for.data(), waits, limit);
        if (vf_interrupt_) mem::drain_event(vf_interrupt_->event);
    }
    want_kicks(false);
}

void Poller::want_kicks(bool wanted) noexcept {
    for (unsigned number = 0; number < pairs_.size(); ++number) {
        if (virtio::TransmitRing* queue = device_.transmit(number)) {
            queue->want_kicks(wanted);
            if (!wanted) queue->drain_kick();
        }
        if (virtio::ReceiveRing* queue = pairs_[number]->receive.guest_queue()) {
            // Two pairs may share a queue: what one asked for, the other must not take back.
            if (!wanted || pairs_[number]->receive.wants_buffers()) queue->want_kicks(wanted);
            if (!wanted) queue->drain_kick();
        }
    }
}

}  // namespace vitrine::apps
