/// How the driver of a packed ring and its device wake each other (VIRTIO 1.3, 2.8.10).

#include <atomic>
#include <poll.h>
#include <thread>

#include <doctest/doctest.h>

#include "tests/apps/guest_packed_ring_bench.hpp"

using namespace vitrine;
using namespace vitrine::guest;
using Bench = PackedRingBench;
using virtio::EventSuppression;
using virtio::PackedPosition;

TEST_CASE("VIRTIO 1.3, 2.8.10: the device is kicked always, never, or when its position is passed") {
    Bench bench({.entries = 5});
    bench.device.wish(EventSuppression::enable);
    bench.add_and_publish(1);
    CHECK(bench.device.kicked());
    bench.ring.publish();  // nothing new
    CHECK_FALSE(bench.device.kicked());
    bench.device.wish(EventSuppression::disable);
    bench.add_and_publish(1);
    CHECK_FALSE(bench.device.kicked());
    bench.device.wish(EventSuppression::at_position, {.slot = 3, .wrap = true});
    bench.add_and_publish(1);
    CHECK_FALSE(bench.device.kicked());
    bench.add_and_publish(2);  // slots 3 and 4
    CHECK(bench.device.kicked());
    for (const auto& chain : bench.device.read_all()) bench.device.use(chain, 1);
    while (bench.ring.take_used()) {
    }
    bench.device.wish(EventSuppression::at_position, {.slot = 1, .wrap = true});  // passed in the lap before
    bench.add_and_publish(2);
    CHECK_FALSE(bench.device.kicked());
    bench.device.wish(EventSuppression::at_position, {.slot = 4, .wrap = false});
    bench.add_and_publish(3);
    CHECK(bench.device.kicked());
    CHECK(bench.ring.kicks() == 3);
    CHECK(bench.ring.kicks_suppressed() == 3);
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("VIRTIO 1.3, 2.8.10: a wish that the device must not have is named, and it is kicked") {
    Bench reserved;
    reserved.device.wish(3);
    reserved.add_and_publish(1);
    CHECK(reserved.device.kicked());
    CHECK(reserved.violations(Violation::flags_wrong) == 1);

    Bench without({.entries = 4, .event_index = false});
    without.device.wish(EventSuppression::at_position, {.slot = 3, .wrap = true});
    without.add_and_publish(1);
    CHECK(without.device.kicked());
    CHECK(without.violations(Violation::flags_wrong) == 1);
}

TEST_CASE("VIRTIO 1.3, 2.8.10: with event index a call is wanted at the next slot to be used, in its lap") {
    Bench bench({.entries = 3});
    bench.ring.want_calls(false);
    CHECK(bench.device.driver_wish().flags == EventSuppression::disable);
    for (std::uint32_t turn = 0; turn < 4; ++turn) {
        bench.ring.want_calls(true);
        CHECK(bench.device.driver_wish().flags == EventSuppression::at_position);
        CHECK(PackedPosition::of(bench.device.driver_wish().position) == bench.device.used);
        bench.add_and_publish(1);
        bench.device.use(*bench.device.next(), 1);
        CHECK(bench.ring.has_used());
        REQUIRE(bench.ring.take_used());
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.10: without event index the flags alone say whether calls are wanted") {
    Bench bench({.entries = 4, .event_index = false});
    bench.ring.want_calls(false);
    CHECK(bench.device.driver_wish().flags == EventSuppression::disable);
    bench.ring.want_calls(true);
    CHECK(bench.device.driver_wish().flags == EventSuppression::enable);
    CHECK(bench.device.driver_wish().position == 0);
}

TEST_CASE("VIRTIO 1.3, 2.8.21.3: device and driver of a packed ring on two threads, both sleeping: none sleeps on") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        Bench bench({.entries = 7, .event_index = event_index, .most_segments = 2});
        constexpr std::uint32_t chains = 50'000;
        std::atomic<bool> slept_too_long{false};
        const auto wait = [&](int descriptor) {
            pollfd entry{descriptor, POLLIN, 0};
            if (::poll(&entry, 1, 20'000) != 1) slept_too_long = true;
        };
        std::thread device([&] {
            const auto full_fence = [] { std::atomic_thread_fence(std::memory_order_seq_cst); };
            for (std::uint32_t count = 0; count < chains && !slept_too_long;) {
                auto chain = bench.device.next();
                if (!chain) {
                    bench.device.wish(event_index ? EventSuppression::at_position : EventSuppression::enable,
                                      bench.device.available);
                    full_fence();
                    chain = bench.device.next();
                    if (!chain) wait(bench.ring.kick_descriptor());
                    bench.device.wish(EventSuppression::disable);
                    bench.device.kicked();
                    if (!chain) continue;
                }
                const PackedPosition before = bench.device.used;
                bench.device.use(*chain, 100);
                ++count;
                bench.device.call_if_wanted(before);
            }
        });
        std::uint32_t added = 0;
        std::uint32_t back = 0;
        std::uint32_t wrong = 0;
        while (back < chains && !slept_too_long && !bench.ring.broken()) {
            while (added < chains && bench.add(added % 8, 1 + added % 2)) ++added;
            bench.ring.publish();
            const std::uint32_t before = back;
            while (const auto used = bench.ring.take_used()) wrong += used->cookie != back++ % 8;
            if (back != before) continue;
            bench.ring.want_calls(true);
            if (!bench.ring.has_used()) wait(bench.ring.call_descriptor());
            bench.ring.drain_call();
            bench.ring.want_calls(false);
        }
        device.join();
        CHECK_FALSE(slept_too_long);
        CHECK(wrong == 0);
        CHECK(back == chains);
        CHECK(bench.ring.violations().total() == 0);
    }
}
