/// Transmit queues over packed rings, and how both sides are woken.

#include <doctest/doctest.h>

#include "tests/virtio/packed_bench.hpp"

using namespace vitrine;
using test::PackedReceiveBench;
using test::PackedTransmitBench;
using test::pattern;
using virtio::EventSuppression;
using virtio::PackedDescriptor;

TEST_CASE("VIRTIO 1.3, 2.8.6: sent chains of any cut come whole, across the end of the ring, direct and indirect") {
    for (const std::uint16_t entries : {5, 6, 8}) {
        PackedTransmitBench bench({.entries = entries, .start = 3});
        for (unsigned round = 0; round < 40; ++round) {
            CAPTURE(round);
            bench.next_buffer = bench.data;
            bench.send(pattern(1000, round), {12, 0, 500}, round % 4 == 3);
            REQUIRE(bench.next() == pattern(1000, round));
            bench.complete(1);
            REQUIRE(bench.driver.take_used());
            CHECK(bench.queue.base() == bench.base_at_seen());
        }
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.8: several in flight complete in the order they came, under their own names") {
    PackedTransmitBench bench({.entries = 7, .start = 0x8004});
    unsigned sent = 0, taken = 0, seen = 0;
    for (unsigned round = 0; round < 30; ++round) {
        bench.next_buffer = bench.data;
        while (bench.driver.free_slots() >= 2 && sent < taken + 3) {
            bench.send(pattern(200, sent),
                       sent % 2 == 0 ? std::vector<std::uint32_t>{100} : std::vector<std::uint32_t>{});
            ++sent;
        }
        while (const auto frame = bench.next()) REQUIRE(*frame == pattern(200, taken++));
        const std::size_t some = 1 + round % bench.queue.in_flight();
        bench.complete(some);
        for (std::size_t i = 0; i < some; ++i, ++seen) REQUIRE(bench.driver.take_used());
        CHECK_FALSE(bench.driver.take_used());
        CHECK(bench.queue.in_flight() == taken - seen);
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.8: dropped chains wait for their turn, and are counted once") {
    PackedTransmitBench bench({.entries = 7});
    const auto send_bad = [&] { bench.driver.post(bench.buffers_of({100, 2}), true); };
    bench.send(pattern(100, 1));
    send_bad();
    bench.send(pattern(100, 2));
    send_bad();
    CHECK(bench.next() == pattern(100, 1));
    CHECK(bench.next() == pattern(100, 2));
    CHECK_FALSE(bench.next());
    bench.queue.publish();
    CHECK_FALSE(bench.driver.has_used());
    bench.complete(1);
    for (int i = 0; i < 2; ++i) REQUIRE(bench.driver.take_used());
    CHECK_FALSE(bench.driver.take_used());
    CHECK(bench.counters.tx_bad_chain == 1);
    bench.complete(1);
    for (int i = 0; i < 2; ++i) REQUIRE(bench.driver.take_used());
    CHECK(bench.counters.tx_bad_chain == 2);
    CHECK(bench.counters.frames == 2);
    CHECK(bench.queue.base() == bench.base_at_seen());
}

TEST_CASE("a sent chain in a table that was not agreed to breaks the ring, and what is in flight can still complete") {
    PackedTransmitBench bench({.indirect = false});
    bench.send(pattern(100, 1));
    bench.send(pattern(100, 2), {50}, true);
    CHECK(bench.next());
    CHECK_FALSE(bench.next());
    CHECK(bench.queue.broken());
    CHECK(bench.error.drain());
    bench.complete(1);
    CHECK(bench.driver.take_used());
    CHECK_FALSE(bench.driver.take_used());
}

TEST_CASE("what was in flight at a stop comes again, from the place that base() names") {
    for (const std::uint16_t start : {0x8000, 0x8005, 4}) {
        PackedTransmitBench bench({.entries = 7, .start = start});
        for (unsigned i = 0; i < 3; ++i) bench.send(pattern(100, i), {30});
        for (unsigned i = 0; i < 3; ++i) CHECK(bench.next() == pattern(100, i));
        bench.complete(1);
        REQUIRE(bench.driver.take_used());
        CHECK(bench.queue.base() == bench.base_at_seen());
        bench.queue.roll_back();
        CHECK(bench.queue.in_flight() == 0);
        CHECK(bench.queue.base() == bench.base_at_seen());
        CHECK(bench.next() == pattern(100, 1));  // the same start goes on

        virtio::PackedTransmitQueue again(bench.memory,
                                          bench.ring_at(virtio::PackedBase::of(bench.queue.base()), bench.counters),
                                          1518, virtio::TransmitQueue::Mode::send, bench.counters);
        for (unsigned i = 1; i < 3; ++i) {
            const auto frame = again.next();
            REQUIRE(frame);
            CHECK(test::TransmitBench::bytes(*frame) == pattern(100, i));
        }
        again.complete_oldest(2);
        again.publish();
        for (int i = 0; i < 2; ++i) CHECK(bench.driver.take_used());
        CHECK(again.base() == bench.base_at_seen());
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.10: the driver is called, or not, as its flags say") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        PackedReceiveBench bench({.entries = 5, .event_index = event_index});
        const auto called = [&](std::uint16_t raw_flags, std::uint16_t position) {
            bench.next_buffer = bench.data;
            bench.post({2048});
            bench.driver.set_events(raw_flags, position);
            bench.pass(60, 1);
            return bench.call.drain();
        };
        CHECK(called(EventSuppression::enable, 3));
        CHECK_FALSE(called(EventSuppression::disable, bench.driver.seen()));
        CHECK(called(3, 0));  // reserved: better one too many
        CHECK(called(EventSuppression::at_position, bench.driver.seen()));
        CHECK(called(EventSuppression::at_position, bench.driver.seen_after(1)) == !event_index);
        CHECK(bench.counters.calls_suppressed == (event_index ? 2 : 1));
        bench.driver.set_events(EventSuppression::disable);
        bench.queue.owe_call();
        CHECK_FALSE(bench.queue.publish());
        CHECK(bench.call.drain());
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.10: the driver is called when the slot of its wish is passed, in that lap and no other") {
    // Two frames of two buffers each in a burst, so four slots of seven; all places to start, all wishes.
    for (std::uint32_t start = 0; start < 14; ++start)
        for (std::uint32_t wish = 0; wish < 14; ++wish) {
            const auto place = [](std::uint32_t count) {
                return static_cast<std::uint16_t>(count % 7 | (count / 7 % 2 == 0 ? 0x8000 : 0));
            };
            PackedReceiveBench bench({.entries = 7, .start = place(start)});
            for (unsigned i = 0; i < 2; ++i) bench.post({100, 1000});
            bench.driver.set_events(EventSuppression::at_position, place(start + wish));
            for (unsigned i = 0; i < 2; ++i) REQUIRE(bench.deliver(pattern(500, i)) == virtio::Delivery::delivered);
            bench.queue.publish();
            CAPTURE(start);
            CAPTURE(wish);
            REQUIRE(bench.call.drain() == (wish < 4));
        }
}

TEST_CASE("VIRTIO 1.3, 2.8.10: a hostile wish costs at most a call") {
    PackedReceiveBench bench({.entries = 5, .start = 0x8004});
    for (const std::uint16_t position : {0x7fff, 0xffff, 0x0005, 0x8005}) {
        bench.post({2048});
        bench.driver.set_events(EventSuppression::at_position, position);
        bench.pass(60, position);
    }
    CHECK(bench.counters.calls + bench.counters.calls_suppressed == 4);
}

TEST_CASE("VIRTIO 1.3, 2.8.10: the device says whether it wants kicks, and what is there by then needs none") {
    PackedReceiveBench bench({.entries = 3});
    bench.queue.want_kicks(false);
    CHECK_FALSE(bench.driver.device_wants_kick());
    CHECK_FALSE(bench.queue.has_waiting());
    bench.queue.want_kicks(true);
    CHECK(bench.driver.device_wants_kick());
    CHECK_FALSE(bench.queue.has_waiting());
    bench.post({2048});
    CHECK(bench.queue.has_waiting());
    for (unsigned i = 0; i < 2; ++i) bench.post({2048});
    for (unsigned i = 3; i > 0; --i) {
        CHECK(bench.queue.has_waiting());
        REQUIRE(bench.deliver(pattern(60, i)) == virtio::Delivery::delivered);
    }
    CHECK_FALSE(bench.queue.has_waiting());  // it stands where it began, a lap later
    bench.kick.signal();
    bench.queue.drain_kick();
    CHECK(bench.counters.kicks == 1);
}

TEST_CASE("a disabled ring is drained and sends nothing") {
    PackedTransmitBench bench({.mode = virtio::TransmitQueue::Mode::discard});
    for (unsigned i = 0; i < 3; ++i) bench.send(pattern(100, i), {20});
    CHECK_FALSE(bench.next());
    bench.queue.publish();
    for (unsigned i = 0; i < 3; ++i) CHECK(bench.driver.take_used());
    CHECK(bench.counters.tx_disabled == 3);
}

TEST_CASE("a name is only echoed: two of the same, and of any value, are no matter of the device's") {
    PackedReceiveBench bench({.entries = 4});
    for (const std::uint16_t id : {0xffff, 0xffff, 0, 0x8000})
        bench.driver.post_raw(test::GuestRam::guest_base + bench.data, 2048, id, PackedDescriptor::device_writes);
    for (unsigned i = 0; i < 4; ++i) REQUIRE(bench.deliver(pattern(60)) == virtio::Delivery::delivered);
    bench.queue.publish();
    CHECK(bench.driver.descriptor(0).id == 0xffff);
    CHECK(bench.driver.descriptor(1).id == 0xffff);
    CHECK(bench.driver.descriptor(2).id == 0);
    CHECK(bench.driver.descriptor(3).id == 0x8000);
    for (unsigned slot = 0; slot < 4; ++slot) CHECK(bench.driver.descriptor(slot).flags == (0x8080 | 2));
}

TEST_CASE("a driver that makes available what is still the device's keeps nobody awake, and nothing is taken twice") {
    for (const std::uint16_t start : {0x8000, 0x0000, 0x8002}) {
        PackedTransmitBench bench({.entries = 3, .start = start});
        for (unsigned i = 0; i < 3; ++i) bench.send(pattern(100, i));
        for (unsigned i = 0; i < 3; ++i) REQUIRE(bench.next() == pattern(100, i));
        const std::uint32_t slot = bench.driver.posted() % 0x8000;
        PackedDescriptor again = bench.driver.descriptor(slot);
        again.flags = bench.driver.available_flags();  // of the next lap
        bench.driver.set_descriptor(slot, again);
        CHECK_FALSE(bench.queue.has_waiting());
        CHECK_FALSE(bench.next());
        CHECK(bench.queue.in_flight() == 3);
        bench.complete(3);
        for (int i = 0; i < 3; ++i) CHECK(bench.driver.take_used());
        CHECK_FALSE(bench.queue.has_waiting());
    }
}

TEST_CASE("a sent chain of more than 1024 descriptors is dropped, however short they are") {
    PackedTransmitBench bench;
    const auto send_empty = [&](std::uint32_t descriptors) {
        bench.driver.post_raw(test::GuestRam::guest_base + bench.data, descriptors * sizeof(PackedDescriptor), 9,
                              PackedDescriptor::indirect);
        CHECK_FALSE(bench.next());
    };
    send_empty(1024);
    CHECK(bench.counters.tx_bad_header == 1);
    send_empty(1025);
    CHECK(bench.counters.tx_many_pieces == 1);
    CHECK(bench.counters.tx_bad_header == 1);
    CHECK_FALSE(bench.queue.broken());
}

TEST_CASE("VIRTIO 1.3, 2.8.7: an empty table is no chain, not even one that is too short") {
    PackedTransmitBench bench;
    bench.driver.post_raw(test::GuestRam::guest_base + bench.data, 0, 9, PackedDescriptor::indirect);
    CHECK_FALSE(bench.next());
    CHECK(bench.queue.broken());
    CHECK(bench.counters.tx_bad_header == 0);
    bench.queue.publish();
    CHECK_FALSE(bench.driver.has_used());
}
