/// Places in a packed ring, and receive queues over it.

#include <doctest/doctest.h>

#include "tests/virtio/packed_bench.hpp"
#include "virtio/packed_device_ring.hpp"

using namespace vitrine;
using test::PackedOptions;
using test::PackedReceiveBench;
using test::pattern;
using virtio::Delivery;
using virtio::PackedBase;
using virtio::PackedDescriptor;
using virtio::PackedPosition;
using virtio::passes_position;

TEST_CASE("VIRTIO 1.3, 2.8.1: a descriptor is available or used in one lap, and zeroes are neither in the first") {
    for (const bool wrap : {false, true}) {
        CAPTURE(wrap);
        CHECK(PackedDescriptor::is_available(PackedDescriptor::available_in(wrap), wrap));
        CHECK_FALSE(PackedDescriptor::is_available(PackedDescriptor::available_in(wrap), !wrap));
        CHECK(PackedDescriptor::is_used(PackedDescriptor::used_in(wrap), wrap));
        CHECK_FALSE(PackedDescriptor::is_used(PackedDescriptor::used_in(wrap), !wrap));
        CHECK_FALSE(PackedDescriptor::is_available(PackedDescriptor::used_in(wrap), wrap));
        CHECK_FALSE(PackedDescriptor::is_available(PackedDescriptor::used_in(!wrap), wrap));
        CHECK(PackedDescriptor::is_available(PackedDescriptor::available_in(wrap) | 0x7f7f, wrap));
    }
    CHECK(PackedDescriptor::available_in(true) == 0x80);
    CHECK(PackedDescriptor::available_in(false) == 0x8000);
    CHECK(PackedDescriptor::used_in(true) == 0x8080);
    CHECK_FALSE(PackedDescriptor::is_available(0, true));
    CHECK_FALSE(PackedDescriptor::is_used(0, true));
}

TEST_CASE("VIRTIO 1.3, 2.8.1: a place moves on by slots, once around at most, and the wrap counter with it") {
    for (const std::uint32_t entries : {1u, 2u, 3u, 7u, 8u, 32768u})
        for (const bool wrap : {false, true})
            for (std::uint32_t slot = 0; slot < entries; slot += entries < 10 ? 1 : 8191)
                for (std::uint32_t slots = 0; slots <= entries; slots += entries < 10 ? 1 : 4096) {
                    const PackedPosition from{static_cast<std::uint16_t>(slot), wrap};
                    const PackedPosition to = from.after(slots, entries);
                    REQUIRE(to.slot == (slot + slots) % entries);
                    REQUIRE(to.wrap == (wrap != (slot + slots >= entries)));
                    REQUIRE(to.from(from, entries) == slots);
                    REQUIRE(PackedPosition::of(to.raw()) == to);
                }
}

TEST_CASE("vhost-user: a base is the next descriptor to read, and above it the next one to write over") {
    const PackedBase base = PackedBase::of(0x0005'8003);
    CHECK(base.available == PackedPosition{3, true});
    CHECK(base.used == PackedPosition{5, false});
    CHECK(base.raw() == 0x0005'8003);
    CHECK(PackedBase{}.raw() == 0x8000'8000);
    CHECK(PackedBase::of(0xffff'7fff).available == PackedPosition{0x7fff, false});
    CHECK(PackedBase::of(0xffff'7fff).used == PackedPosition{0x7fff, true});
}

TEST_CASE("VIRTIO 1.3, 2.8.10: an event is passed when its slot is, in the lap that it names") {
    for (const std::uint32_t entries : {1u, 3u, 7u, 8u})
        for (std::uint32_t start = 0; start < 2 * entries; ++start)
            for (std::uint32_t slots = 0; slots <= entries; ++slots)
                for (std::uint32_t event = 0; event < 2 * entries; ++event) {
                    const auto place = [&](std::uint32_t count) {
                        return PackedPosition{static_cast<std::uint16_t>(count % entries), count / entries % 2 == 0};
                    };
                    bool passed = false;
                    for (std::uint32_t i = 0; i < slots; ++i) passed = passed || place(start + i) == place(event);
                    REQUIRE(passes_position(place(event), place(start + slots), place(start), entries) == passed);
                }
}

TEST_CASE("VIRTIO 1.3, 2.8.1: a receive ring of any size goes around for many laps, from any start") {
    for (const std::uint16_t entries : {1, 2, 3, 5, 8, 100})
        for (const std::uint16_t wrap : {0, 0x8000}) {
            const auto slot = static_cast<std::uint16_t>(entries * 2 / 3);
            CAPTURE(entries);
            PackedReceiveBench bench({.entries = entries, .start = static_cast<std::uint16_t>(wrap | slot)});
            CHECK(bench.deliver(pattern(60)) == Delivery::no_buffer);
            for (unsigned round = 0; round < 5u * entries; ++round) {
                bench.next_buffer = bench.data;
                while (bench.driver.free_slots() > (entries == 1 ? 0 : round % 2)) bench.post({2048});
                CHECK(bench.queue.base() == bench.base_at_seen());
                bench.pass(60 + round, round);
            }
            CHECK(bench.counters.frames == 5u * entries);
            CHECK_FALSE(bench.queue.broken());
        }
}

TEST_CASE("VIRTIO 1.3, 2.8: the largest ring can be full, and be used whole in one burst") {
    PackedReceiveBench bench({.entries = 32768, .start = 5});
    const std::vector<test::GuestRing::Buffer> buffer{{bench.data, 100}};
    for (unsigned lap = 0; lap < 2; ++lap) {
        while (bench.driver.free_slots() > 0) bench.driver.post(buffer, true);
        for (unsigned i = 0; i < 32768; ++i)
            if (bench.deliver(pattern(60)) != Delivery::delivered) FAIL(i);
        CHECK_FALSE(bench.queue.has_waiting());
        CHECK(bench.deliver(pattern(60)) == Delivery::no_buffer);
        CHECK_FALSE(bench.driver.has_used());
        bench.queue.publish();
        while (bench.driver.take_used()) {
        }
        CHECK(bench.driver.free_slots() == 32768);
        CHECK(bench.queue.base() == bench.base_at_seen());
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.6: chains go on across the end of the ring, and take one used descriptor") {
    PackedReceiveBench bench({.entries = 7, .start = 5});
    for (unsigned round = 0; round < 30; ++round) {
        bench.next_buffer = bench.data;
        bench.post({10, 20, 30, 40, 2000});
        bench.pass(1500, round);
        bench.post({10, 1000, 1000});
        bench.pass(1500, round + 100);
    }
    CHECK(bench.counters.elements == 60);
}

TEST_CASE("VIRTIO 1.3, 2.8.6: a chain that fills the whole ring is one, and one that goes on is none") {
    for (const std::uint16_t start : {0x8000, 3, 0x8006}) {
        CAPTURE(start);
        PackedReceiveBench bench({.entries = 7, .start = start});
        bench.post({100, 100, 100, 100, 100, 100, 1000});
        bench.pass(1500, 1);

        for (unsigned i = 0; i < 7; ++i)
            bench.driver.post_raw(test::GuestRam::guest_base + bench.data, 1000, 7,
                                  PackedDescriptor::has_next | PackedDescriptor::device_writes);
        CHECK(bench.deliver(pattern(60)) == Delivery::broken);
        CHECK(bench.queue.broken());
        CHECK(bench.error.drain());
        CHECK(bench.counters.ring_broken == 1);
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.6: a chain that is longer than what is left of the ring breaks it, others waiting or not") {
    PackedReceiveBench bench({.entries = 6});
    for (unsigned i = 0; i < 3; ++i) bench.post({2048});
    bench.pass(100, 1);
    bench.post({2048});
    bench.queue.prefetch(3);
    bench.driver.set_descriptor(5, {.address = 0, .length_bytes = 0, .id = 7, .flags = PackedDescriptor::has_next});
    bench.driver.set_descriptor(0, {.address = 0, .length_bytes = 0, .id = 7, .flags = PackedDescriptor::has_next});
    bench.driver.post_raw(0, 0, 7, PackedDescriptor::has_next);  // and on into the oldest that waits
    CHECK(bench.deliver(pattern(60)) == Delivery::delivered);    // nobody had to look yet
    const std::uint32_t base = bench.queue.base();
    CHECK(bench.queue.publish());
    bench.driver.set_descriptor(1, {.address = 0, .length_bytes = 0, .id = 7, .flags = PackedDescriptor::has_next});
    bench.queue.prefetch(4);
    CHECK(bench.queue.broken());
    CHECK(bench.deliver(pattern(60)) == Delivery::broken);
    CHECK(bench.counters.rx_broken_ring == 1);
    CHECK_FALSE(bench.queue.has_waiting());
    CHECK_FALSE(bench.queue.publish());
    CHECK(bench.queue.base() == base);
}

TEST_CASE("VIRTIO 1.3, 2.8.9: the buffers of a frame become visible together, the first one's flags last") {
    for (const std::uint16_t start : {0x8000, 0x8005, 6}) {
        CAPTURE(start);
        PackedReceiveBench bench({.entries = 7, .start = start});
        for (unsigned i = 0; i < 6; ++i) bench.post({512});
        const auto frame = pattern(1600);
        REQUIRE(bench.deliver(frame) == Delivery::delivered);
        CHECK_FALSE(bench.driver.has_used());
        REQUIRE(bench.deliver(pattern(100)) == Delivery::delivered);
        CHECK_FALSE(bench.driver.has_used());
        CHECK(bench.queue.publish());
        CHECK(bench.driver.take_frame() == frame);
        CHECK(bench.driver.last_header.buffers == 4);
        CHECK(bench.driver.take_frame() == pattern(100));
        CHECK_FALSE(bench.queue.publish());
    }
}

TEST_CASE("VIRTIO 1.3, 2.8.9: a frame that finds too few buffers takes none of them") {
    PackedReceiveBench bench({.entries = 7});
    for (unsigned i = 0; i < 3; ++i) bench.post({512});
    const std::uint32_t base = bench.queue.base();
    CHECK(bench.deliver(pattern(1600)) == Delivery::no_buffer);
    CHECK_FALSE(bench.queue.publish());
    CHECK(bench.queue.base() == base);
    bench.post({512});
    bench.pass(1600, 1);
    CHECK(bench.queue.base() == bench.base_at_seen());
}

TEST_CASE("VIRTIO 1.3, 2.8.3: a receive buffer that the device may not write breaks the ring") {
    PackedReceiveBench bench;
    bench.driver.post(bench.buffers_of({2048}), false);
    CHECK(bench.deliver(pattern(60)) == Delivery::broken);
}

TEST_CASE("VIRTIO 1.3, 2.8.7: an indirect table holds a chain in one slot") {
    PackedReceiveBench bench({.entries = 3, .start = 2});
    for (unsigned round = 0; round < 9; ++round) {
        bench.next_buffer = bench.data;
        bench.post({12, 100, 0, 2000}, true);
        bench.post({2048});
        bench.post({700, 700, 700}, true);
        for (unsigned frame = 0; frame < 3; ++frame) bench.pass(1500, round + frame);
    }
    CHECK(bench.counters.elements == 27);
}

namespace {

/// What a frame meets behind an indirect descriptor of these, before a table that is good for it.
Delivery try_indirect(bool negotiated, std::uint32_t length_bytes, std::uint16_t more_flags = 0,
                      std::uint16_t inner_flags = 0, std::uint64_t shift = 0) {
    PackedReceiveBench bench({.indirect = negotiated});
    const std::uint64_t table = bench.driver.indirect_offset(0) + shift;
    for (unsigned i = 0; i < 2; ++i) {
        const PackedDescriptor inner{
            .address = test::GuestRam::guest_base + bench.data + 0x1000u * i,
            .length_bytes = 1024,
            .id = 0x1234,
            .flags = static_cast<std::uint16_t>(PackedDescriptor::device_writes | inner_flags)};
        std::memcpy(bench.ram.at(table + sizeof(inner) * i), &inner, sizeof(inner));
    }
    const bool chained = (more_flags & PackedDescriptor::has_next) != 0;
    if (chained)  // good, if the first were no table
        bench.driver.set_descriptor(1, {.address = test::GuestRam::guest_base + bench.data,
                                        .length_bytes = 2048,
                                        .id = 9,
                                        .flags = static_cast<std::uint16_t>(bench.driver.available_flags(1) |
                                                                            PackedDescriptor::device_writes)});
    bench.driver.post_raw(test::GuestRam::guest_base + table, length_bytes, 9,
                          static_cast<std::uint16_t>(PackedDescriptor::indirect | more_flags));
    const Delivery outcome = bench.deliver(pattern(60));
    CHECK(bench.queue.broken() == (outcome == Delivery::broken));
    if (outcome == Delivery::delivered) {
        bench.queue.publish();
        CHECK(bench.driver.descriptor(0).id == 9);
    }
    return outcome;
}

}  // namespace

TEST_CASE("VIRTIO 1.3, 2.8.7: a table is of whole descriptors, was agreed to, and is alone in its chain") {
    CHECK(try_indirect(true, 32) == Delivery::delivered);
    CHECK(try_indirect(true, 16) == Delivery::delivered);
    CHECK(try_indirect(false, 32) == Delivery::broken);
    CHECK(try_indirect(true, 0) == Delivery::broken);
    CHECK(try_indirect(true, 31) == Delivery::broken);
    CHECK(try_indirect(true, 33) == Delivery::broken);
    CHECK(try_indirect(true, 0xffff'fff0) == Delivery::broken);
    CHECK(try_indirect(true, 32, PackedDescriptor::has_next) == Delivery::broken);
    CHECK(try_indirect(true, 32, 0, 0, 4) == Delivery::broken);  // words are read whole
    CHECK(try_indirect(true, 32, 0, 0, 8) == Delivery::delivered);
}

TEST_CASE("VIRTIO 1.3, 2.8.7: in a table WRITE alone has a meaning, but no table lies in another") {
    CHECK(try_indirect(true, 32, PackedDescriptor::device_writes) == Delivery::delivered);
    CHECK(try_indirect(true, 32, 0, PackedDescriptor::has_next) == Delivery::delivered);
    CHECK(try_indirect(true, 32, 0, PackedDescriptor::lap_mask) == Delivery::delivered);
    CHECK(try_indirect(true, 32, 0, PackedDescriptor::indirect) == Delivery::broken);
}

TEST_CASE("VIRTIO 1.3, 2.8.7: a table that follows in a chain breaks the ring too") {
    PackedReceiveBench bench;
    bench.driver.set_descriptor(
        1, {.address = test::GuestRam::guest_base + bench.driver.indirect_offset(0),
            .length_bytes = 16,
            .id = 9,
            .flags = static_cast<std::uint16_t>(bench.driver.available_flags(1) | PackedDescriptor::indirect)});
    bench.driver.post_raw(test::GuestRam::guest_base + bench.data, 16, 9,
                          PackedDescriptor::has_next | PackedDescriptor::device_writes);
    CHECK(bench.deliver(pattern(60)) == Delivery::broken);
}

TEST_CASE("an indirect table in the guest's no man's land breaks the ring, and one with more than it may have") {
    PackedReceiveBench bench;
    bench.driver.post_raw(0, 32, 9, PackedDescriptor::indirect);
    CHECK(bench.deliver(pattern(60)) == Delivery::broken);
    PackedReceiveBench long_table;
    long_table.driver.post_raw(test::GuestRam::guest_base, 16 * 32769, 9, PackedDescriptor::indirect);
    CHECK(long_table.deliver(pattern(60)) == Delivery::broken);
}

TEST_CASE("hostile flags in slots that are the device's are not looked at") {
    PackedReceiveBench bench({.entries = 4});
    for (unsigned i = 0; i < 4; ++i) bench.post({2048});
    REQUIRE(bench.deliver(pattern(60, 1)) == Delivery::delivered);
    // Used and not shown: it says it is available in the next lap, and another chain.
    bench.driver.set_descriptor(0, {.address = 0, .length_bytes = 0, .id = 0, .flags = 0x8000 | 7});
    for (unsigned i = 2; i <= 4; ++i) REQUIRE(bench.deliver(pattern(60, i)) == Delivery::delivered);
    CHECK_FALSE(bench.queue.broken());
    bench.queue.publish();
    for (unsigned i = 1; i <= 4; ++i) CHECK(bench.driver.take_frame() == pattern(60, i));
}

TEST_CASE("a chain is as long as it was when it was found, whatever its flags say later") {
    PackedReceiveBench bench({.entries = 4});
    bench.post({100, 2000});
    bench.post({2000});
    REQUIRE(bench.deliver(pattern(1900)) == Delivery::delivered);
    REQUIRE(bench.deliver(pattern(3000)) == Delivery::no_buffer);  // finds the last
    PackedDescriptor last = bench.driver.descriptor(2);
    last.flags |= PackedDescriptor::has_next;
    bench.driver.set_descriptor(2, last);
    REQUIRE(bench.deliver(pattern(60)) == Delivery::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(1900));
    CHECK(bench.driver.take_frame() == pattern(60));
    CHECK(bench.queue.base() == bench.base_at_seen());
}

TEST_CASE("VIRTIO 1.3, 2.8.4: a used descriptor has all 32 bits of a length, and with pages all 64 of an address") {
    test::PackedBench bench({.entries = 4});
    virtio::RingCounters counters;
    virtio::PackedDeviceRing ring = bench.ring(counters);
    for (int i = 0; i < 2; ++i) bench.driver.post({{bench.data, 100}}, true);
    REQUIRE(ring.waiting(2) == 2);
    ring.take(2);
    ring.give_back(0xfedc, 0x8765'4321);
    ring.give_back(0xba98, 0xf000'0001, 0x8123'4567'89ab'cdef);
    CHECK(ring.publish());
    CHECK(bench.driver.descriptor(0).length_bytes == 0x8765'4321);
    CHECK(bench.driver.descriptor(0).id == 0xfedc);
    CHECK(bench.driver.descriptor(1).length_bytes == 0xf000'0001);
    CHECK(bench.driver.descriptor(1).id == 0xba98);
    CHECK(bench.driver.descriptor(1).address == 0x8123'4567'89ab'cdef);
}
