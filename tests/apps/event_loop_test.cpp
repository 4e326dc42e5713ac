#include "apps/vitrine/event_loop.hpp"

#include <doctest/doctest.h>

#include "apps/vitrine/accept.hpp"
#include "mem/file_descriptor.hpp"

using namespace vitrine;
using namespace std::chrono_literals;

namespace {

struct Bench {
    Bench() {
        event.signal();
        loop.add(event.get(), [this] {
            ++calls;
            if (rests) loop.rest(event.get(), 1000ms);
        });
    }
    void run(unsigned turns) {
        for (; turns > 0; --turns) loop.run_once(0ms);
    }

    apps::EventLoop::Time now{};
    apps::EventLoop loop{[this] { return now; }};
    mem::EventFd event;
    unsigned calls = 0;
    bool rests = true;
};

}  // namespace

TEST_CASE("what stays readable is called for again and again, but not while it rests") {
    Bench bench;
    bench.run(100);
    CHECK(bench.calls == 1);
    bench.now += 999ms;
    bench.run(100);
    CHECK(bench.calls == 1);
    bench.now += 1ms;
    bench.rests = false;
    bench.run(100);
    CHECK(bench.calls == 101);
}

TEST_CASE("what is removed while it rests stays away, and can be added again") {
    Bench bench;
    bench.run(1);
    bench.loop.remove(bench.event.get());
    bench.now += 2s;
    bench.run(3);
    CHECK(bench.calls == 1);
    bench.loop.add(bench.event.get(), [&] { bench.calls += 10; });
    bench.run(1);
    CHECK(bench.calls == 11);
}

// Want of descriptors itself is for e2e/front_ends.py: the sanitizers need some, too.
TEST_CASE("a listener that cannot accept is tried once a second, and each failure is counted") {
    apps::EventLoop::Time now{};
    apps::EventLoop loop([&] { return now; });
    const mem::EventFd no_listener;
    no_listener.signal();
    std::uint64_t failures = 0;
    loop.add(no_listener.get(),
             [&] { CHECK_FALSE(apps::accept_or_rest(loop, no_listener.get(), "a test's socket", failures)); });
    for (std::uint64_t second = 1; second <= 3; ++second, now += 1s) {
        for (unsigned turn = 0; turn < 50; ++turn) loop.run_once(0ms);
        CHECK(failures == second);
    }
}
