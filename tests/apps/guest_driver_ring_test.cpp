#include <array>

#include <doctest/doctest.h>

#include "apps/guest/driver_ring.hpp"
#include "tests/apps/guest_fake_device.hpp"

using namespace vitrine;
using namespace vitrine::guest;

namespace {

struct Bench {
    explicit Bench(const DriverRing::Config& wanted = {.entries = 4}) : config(wanted) {}

    bool add(std::uint32_t cookie, std::uint32_t length_bytes = 100) {
        const std::array segments{Segment{mem::GuestPhys{0x1000 * (cookie + 1)}, length_bytes, true}};
        return ring.add(segments, cookie);
    }
    void add_and_publish(std::uint32_t chains) {
        for (std::uint32_t cookie = 0; cookie < chains; ++cookie) REQUIRE(add(cookie));
        ring.publish();
    }
    std::uint64_t violations(Violation violation) const { return ring.violations().of(violation); }

    DriverRing::Config config;
    GuestRam ram{1 << 16, mem::Backing::small_only};
    DriverRing ring{ram, config};
    FakeDevice device{ram, ring};
};

}  // namespace

TEST_CASE("a chain is seen by the device only when it is published, and comes back with its cookie") {
    Bench bench;
    REQUIRE(bench.add(7));
    CHECK(bench.device.available_index() == 0);
    bench.ring.publish();
    CHECK(bench.device.available_index() == 1);
    const auto descriptor = bench.device.descriptor(bench.device.head(0));
    CHECK(descriptor.address == 0x8000);
    CHECK(descriptor.length_bytes == 100);
    CHECK(descriptor.flags == virtio::Descriptor::device_writes);
    CHECK_FALSE(bench.ring.take_used().has_value());

    bench.device.use_next(60);
    bench.device.publish();
    const auto used = bench.ring.take_used();
    REQUIRE(used.has_value());
    CHECK(used->cookie == 7);
    CHECK(used->written_bytes == 60);
    CHECK_FALSE(bench.ring.take_used().has_value());
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("a full ring takes no more, and the indices run on through 65536") {
    Bench bench;
    bench.add_and_publish(4);
    CHECK_FALSE(bench.ring.has_room());
    CHECK_FALSE(bench.add(9));
    for (std::uint32_t turn = 0; turn < 70'000; ++turn) {
        bench.device.use_next(1);
        bench.device.publish();
        const auto used = bench.ring.take_used();
        REQUIRE(used.has_value());
        REQUIRE(used->cookie == turn % 4);
        REQUIRE(bench.add(turn % 4));
        bench.ring.publish();
    }
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("VIRTIO 1.3, 2.7.5.1: descriptors of a chain follow each other around the table's end") {
    Bench bench({.entries = 4, .most_segments = 3});
    const std::array one{Segment{mem::GuestPhys{0}, 10, false}};
    const std::array three{Segment{mem::GuestPhys{0x100}, 1, false}, Segment{mem::GuestPhys{0x200}, 2, false},
                           Segment{mem::GuestPhys{0x300}, 3, true}};
    for (const std::uint32_t cookie : {0u, 1u}) {
        REQUIRE(bench.ring.add(one, cookie));
        bench.ring.publish();
        bench.device.use_next(0);
        bench.device.publish();
        REQUIRE(bench.ring.take_used().has_value());
    }
    REQUIRE(bench.ring.add(three, 2));
    CHECK_FALSE(bench.ring.add(three, 3));
    bench.ring.publish();
    const std::uint16_t head = bench.device.head(2);
    CHECK(head == 2);
    const auto first = bench.device.descriptor(2);
    CHECK(first.flags == virtio::Descriptor::has_next);
    CHECK(first.next == 3);
    CHECK(bench.device.descriptor(3).next == 0);
    const auto last = bench.device.descriptor(0);
    CHECK(last.length_bytes == 3);
    CHECK(last.flags == virtio::Descriptor::device_writes);
}

TEST_CASE("VIRTIO 1.3, 2.7.5.3: an indirect chain takes one descriptor that points to a table") {
    Bench bench({.entries = 2, .indirect = true, .most_segments = 2});
    const std::array two{Segment{mem::GuestPhys{0x100}, 12, true}, Segment{mem::GuestPhys{0x200}, 50, true}};
    REQUIRE(bench.ring.add(two, 0));
    REQUIRE(bench.ring.add(two, 1));
    bench.ring.publish();
    const auto pointer = bench.device.descriptor(bench.device.head(1));
    CHECK(pointer.flags == virtio::Descriptor::indirect);
    CHECK(pointer.length_bytes == 32);
    const auto first = bench.device.read<virtio::Descriptor>(pointer.address);
    CHECK(first.address == 0x100);
    CHECK(first.flags == (virtio::Descriptor::device_writes | virtio::Descriptor::has_next));
    CHECK(first.next == 1);
    const auto second = bench.device.read<virtio::Descriptor>(pointer.address + 16);
    CHECK(second.address == 0x200);
    CHECK(second.flags == virtio::Descriptor::device_writes);

    bench.device.use_next(62);
    bench.device.publish();
    CHECK(bench.ring.take_used()->written_bytes == 62);
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("a used id that never was offered breaks the ring, and is named") {
    for (const std::uint32_t head : {2u, 4u, 0xffff'ffffu}) {
        Bench bench;
        bench.add_and_publish(2);
        bench.device.use(head, 1);
        bench.device.publish();
        CHECK_FALSE(bench.ring.take_used().has_value());
        CHECK(bench.violations(Violation::never_offered) == 1);
        CHECK(bench.ring.broken());
        CHECK_FALSE(bench.add(3));
    }
}

TEST_CASE("a chain that was added and not yet published was not offered") {
    Bench bench;
    bench.add_and_publish(2);
    REQUIRE(bench.add(2));
    bench.device.use(2, 1);
    bench.device.publish();
    CHECK_FALSE(bench.ring.take_used().has_value());
    CHECK(bench.violations(Violation::never_offered) == 1);
}

TEST_CASE("a chain used twice breaks the ring, and is named") {
    Bench bench;
    bench.add_and_publish(3);
    const std::uint16_t head = bench.device.head(0);
    bench.device.use(head, 1);
    bench.device.use(head, 1);
    bench.device.publish();
    CHECK(bench.ring.take_used().has_value());
    CHECK_FALSE(bench.ring.take_used().has_value());
    CHECK(bench.violations(Violation::used_twice) == 1);
    CHECK(bench.ring.broken());
}

TEST_CASE("a chain used before older ones is counted, and its place waits for them") {
    Bench bench;
    bench.add_and_publish(4);
    bench.device.use(bench.device.head(1), 1);
    bench.device.publish();
    CHECK(bench.ring.take_used()->cookie == 1);
    CHECK(bench.violations(Violation::out_of_order) == 1);
    CHECK_FALSE(bench.ring.has_room());
    bench.device.use(bench.device.head(0), 1);
    bench.device.publish();
    CHECK(bench.ring.take_used()->cookie == 0);
    CHECK(bench.violations(Violation::out_of_order) == 1);
    CHECK(bench.add(0));
    CHECK(bench.add(1));
    CHECK_FALSE(bench.add(2));
    CHECK_FALSE(bench.ring.broken());
}

TEST_CASE("VIRTIO 1.3, 2.7.8: used.idx ahead of what was offered breaks the ring, and is named") {
    Bench bench;
    bench.add_and_publish(2);
    bench.device.publish_index(3);
    CHECK_FALSE(bench.ring.take_used().has_value());
    CHECK(bench.violations(Violation::used_index_jumped) == 1);
    CHECK(bench.ring.broken());

    Bench backwards;
    backwards.add_and_publish(2);
    backwards.device.publish_index(0xffff);
    CHECK_FALSE(backwards.ring.take_used().has_value());
    CHECK(backwards.violations(Violation::used_index_jumped) == 1);
}

TEST_CASE("more bytes written than the chain holds is counted, and never believed") {
    Bench bench;
    bench.add_and_publish(1);
    bench.device.use_next(101);
    bench.device.publish();
    CHECK(bench.ring.take_used()->written_bytes == 100);
    CHECK(bench.violations(Violation::written_too_much) == 1);

    Bench transmit;
    const std::array segments{Segment{mem::GuestPhys{0}, 100, false}};
    REQUIRE(transmit.ring.add(segments, 0));
    transmit.ring.publish();
    transmit.device.use_next(1);
    transmit.device.publish();
    CHECK(transmit.ring.take_used()->written_bytes == 0);
    CHECK(transmit.violations(Violation::written_too_much) == 1);
}

TEST_CASE("VIRTIO 1.3, 2.7.10: with event index the device is kicked when avail.idx passes its event, else not") {
    Bench bench({.entries = 8});
    bench.device.want_kick_at(1);
    bench.add_and_publish(1);
    CHECK_FALSE(bench.device.kicked());
    REQUIRE(bench.add(1));
    bench.ring.publish();
    CHECK(bench.device.kicked());
    REQUIRE(bench.add(2));
    bench.ring.publish();
    CHECK_FALSE(bench.device.kicked());
    CHECK(bench.ring.kicks() == 1);
    CHECK(bench.ring.kicks_suppressed() == 2);
}

TEST_CASE("VIRTIO 1.3, 2.7.10: without event index the device's flag decides about kicks") {
    Bench bench({.entries = 8, .event_index = false});
    bench.device.set_flags(virtio::used_no_notify);
    bench.add_and_publish(1);
    CHECK_FALSE(bench.device.kicked());
    bench.device.set_flags(0);
    REQUIRE(bench.add(1));
    bench.ring.publish();
    CHECK(bench.device.kicked());
    bench.ring.publish();  // nothing new
    CHECK_FALSE(bench.device.kicked());
}

TEST_CASE("VIRTIO 1.3, 2.7.7.1: with event index the flag stays 0, and the event is the next used element") {
    Bench bench;
    bench.add_and_publish(3);
    bench.device.use_next(1);
    bench.device.use_next(1);
    bench.device.publish();
    bench.ring.take_used();
    bench.ring.want_calls(true);
    CHECK(bench.ring.has_used());
    bench.ring.take_used();
    bench.ring.want_calls(true);
    CHECK(bench.device.call_wanted_at() == 2);
    CHECK_FALSE(bench.ring.has_used());
    bench.ring.want_calls(false);
    CHECK(bench.device.driver_flags() == 0);
}

TEST_CASE("VIRTIO 1.3, 2.7.7.1: without event index the flag says whether calls are wanted") {
    Bench bench({.entries = 4, .event_index = false});
    bench.ring.want_calls(false);
    CHECK(bench.device.driver_flags() == virtio::available_no_interrupt);
    bench.ring.want_calls(true);
    CHECK(bench.device.driver_flags() == 0);
    bench.device.call();
    CHECK(bench.ring.drain_call());
    CHECK_FALSE(bench.ring.drain_call());
    CHECK(bench.ring.calls() == 1);
}
