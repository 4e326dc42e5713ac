#include "apps/vitrine/event_loop.hpp"

#include <doctest/doctest.h>

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
