#include "mem/handover.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <numeric>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace vitrine::mem;
using namespace std::chrono_literals;

namespace {

/// What a hostile peer makes of an eventfd that it shares with us.
class FullBlockingEvent {
public:
    FullBlockingEvent() {
        const std::uint64_t full = ~std::uint64_t{0} - 1;
        REQUIRE(::write(event_.get(), &full, sizeof(full)) == sizeof(full));
        REQUIRE(::fcntl(event_.get(), F_SETFL, 0) == 0);
    }
    int get() const { return event_.get(); }

private:
    EventFd event_;
};

}  // namespace

TEST_CASE("a channel keeps order over many batches between two threads") {
    Channel<std::uint32_t, 64> channel;
    constexpr std::uint32_t total = 100'000;
    std::thread producer([&] {
        std::array<std::uint32_t, 32> batch;
        for (std::uint32_t sent = 0; sent < total;) {
            const std::size_t count = std::min<std::size_t>(batch.size(), total - sent);
            std::iota(batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(count), sent);
            const std::size_t pushed = channel.push(std::span(batch).first(count));
            sent += static_cast<std::uint32_t>(pushed);
            if (pushed == 0) std::this_thread::yield();
        }
    });
    std::array<std::uint32_t, 32> batch;
    std::uint32_t expected = 0;
    while (expected < total) {
        const std::size_t count = channel.pop(batch);
        for (std::size_t i = 0; i < count; ++i) REQUIRE(batch[i] == expected++);
        if (count == 0) std::this_thread::yield();
    }
    producer.join();
    CHECK(channel.empty());
}

TEST_CASE("while the control thread holds, the poll thread stands still") {
    Handover handover;
    std::atomic<bool> stop = false;
    std::uint64_t turns = 0;  // the poll thread's own: a race here is what the thread sanitizer would see
    std::thread poller([&] {
        while (!stop.load(std::memory_order_relaxed)) {
            handover.stand_by();
            ++turns;
            std::this_thread::yield();
        }
    });
    for (int round = 0; round < 2000; ++round) {
        const Handover::Hold hold = handover.take();
        const Handover::Hold nested = handover.take();
        const std::uint64_t before = turns;
        std::this_thread::yield();
        REQUIRE(turns == before);
        turns += 1000;
    }
    stop = true;
    poller.join();
    CHECK(turns >= 2'000'000);
}

TEST_CASE("a poll thread that a peer holds in a full eventfd comes out of it when the control thread asks") {
    const FullBlockingEvent peer;
    Handover handover;
    std::atomic<bool> stop = false;
    std::thread poller([&] {
        for (;;) {
            handover.stand_by();
            if (stop.load(std::memory_order_relaxed)) return;
            CHECK_FALSE(signal_event(peer.get()));
        }
    });
    handover.set_poll_thread(poller.native_handle());
    for (int round = 0; round < 3; ++round) {
        const Handover::Hold hold = handover.take();
        stop = round == 2;
    }
    poller.join();
}

TEST_CASE("a poll thread that never stops ends the process: nothing it owns may be touched") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGABRT, SIG_DFL);
        ::close(STDERR_FILENO);
        Handover handover;
        const Handover::Hold hold = handover.take(1ms);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
}
