#include <array>
#include <deque>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "tests/apps/guest_packed_ring_bench.hpp"

using namespace vitrine;
using namespace vitrine::guest;
using Bench = PackedRingBench;
using virtio::PackedBase;
using virtio::PackedDescriptor;
using virtio::PackedPosition;

TEST_CASE("VIRTIO 1.3, 2.8.21: a packed chain is seen only when it is published, and comes back with its cookie") {
    Bench bench;
    REQUIRE(bench.add(7));
    REQUIRE(bench.add(8));
    CHECK_FALSE(bench.device.next());
    bench.ring.publish();
    const auto chains = bench.device.read_all();
    REQUIRE(chains.size() == 2);
    REQUIRE(chains[0].descriptors.size() == 1);
    CHECK(chains[0].descriptors[0].address == 0x8000);
    CHECK(chains[0].descriptors[0].length_bytes == 100);
    CHECK(chains[0].descriptors[0].flags == PackedDescriptor::device_writes);
    CHECK_FALSE(bench.ring.has_used());
    CHECK_FALSE(bench.ring.take_used());
    CHECK(bench.ring.outstanding() == 2);

    bench.device.use(chains[0], 60);
    CHECK(bench.ring.has_used());
    const auto used = bench.ring.take_used();
    REQUIRE(used);
    CHECK(used->cookie == 7);
    CHECK(used->written_bytes == 60);
    CHECK_FALSE(bench.ring.take_used());
    CHECK(bench.ring.outstanding() == 1);
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("VIRTIO 1.3, 2.8.1: the wrap counters turn at every lap, at any number of entries") {
    for (const std::uint16_t entries : {1, 2, 3, 5, 8, 11, 32768}) {
        Bench bench({.entries = entries});
        std::deque<FakePackedDevice::Chain> with_device;
        std::uint32_t added = 0;
        std::uint32_t back = 0;
        std::mt19937 random(entries);
        const std::uint32_t total = entries == 32768 ? 100'000 : 1000;
        for (unsigned turn = 0; back < total; ++turn) {
            REQUIRE(turn < 100 * total);
            for (unsigned burst = random() % (entries + 1u); burst > 0 && bench.add(added % 8); --burst) ++added;
            bench.ring.publish();
            for (auto& chain : bench.device.read_all()) with_device.push_back(std::move(chain));
            for (unsigned burst = random() % (entries + 1u); burst > 0 && !with_device.empty(); --burst) {
                bench.device.use(with_device.front(), 1);
                with_device.pop_front();
            }
            while (const auto used = bench.ring.take_used()) REQUIRE(used->cookie == back++ % 8);
        }
        CHECK(bench.ring.violations().total() == 0);
    }
}

TEST_CASE(
    "VIRTIO 1.3, 2.8.6: descriptors of a chain follow each other around the ring's end, and the last has the id") {
    Bench bench({.entries = 5, .most_segments = 3});
    std::uint32_t cookie = 0;
    for (unsigned turn = 0; turn < 50; ++turn) {
        REQUIRE(bench.add(cookie % 8, 3));
        CHECK_FALSE(bench.add(9, 3));
        REQUIRE(bench.add((cookie + 1) % 8, 2));
        CHECK_FALSE(bench.ring.has_room());
        bench.ring.publish();
        const auto chains = bench.device.read_all();
        REQUIRE(chains.size() == 2);
        REQUIRE(chains[0].descriptors.size() == 3);
        CHECK(chains[0].descriptors[0].flags == (PackedDescriptor::device_writes | PackedDescriptor::has_next));
        CHECK(chains[0].descriptors[2].flags == PackedDescriptor::device_writes);
        CHECK(chains[0].descriptors[2].address == 0x1000 * (cookie % 8 + 1) + 2);
        REQUIRE(chains[1].descriptors.size() == 2);
        CHECK(chains[0].id != chains[1].id);
        for (const auto& chain : chains) {
            bench.device.use(chain, 150);
            REQUIRE(bench.ring.take_used()->cookie == cookie++ % 8);
        }
    }
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("VIRTIO 1.3, 2.8.7: an indirect chain takes one descriptor that points to a table") {
    Bench bench({.entries = 3, .indirect = true, .most_segments = 2});
    for (std::uint32_t cookie = 0; cookie < 3; ++cookie) REQUIRE(bench.add(cookie, 2));
    bench.ring.publish();
    const auto chains = bench.device.read_all();
    REQUIRE(chains.size() == 3);
    const auto& pointer = chains[1].descriptors[0];
    CHECK(pointer.flags == PackedDescriptor::indirect);
    CHECK(pointer.length_bytes == 32);
    const auto first = bench.device.read<PackedDescriptor>(pointer.address);
    CHECK(first.address == 0x2000);
    CHECK(first.flags == PackedDescriptor::device_writes);
    CHECK(bench.device.read<PackedDescriptor>(pointer.address + 16).address == 0x2001);
    CHECK(bench.device.read<PackedDescriptor>(chains[2].descriptors[0].address).address == 0x3000);
    bench.device.use(chains[0], 200);
    CHECK(bench.ring.take_used()->written_bytes == 200);
    CHECK(bench.ring.violations().total() == 0);
}

TEST_CASE("a used id that never was offered breaks the packed ring, and is named") {
    for (const std::uint16_t id : {2, 4, 0xffff}) {
        Bench bench;
        bench.add_and_publish(2);
        bench.device.use_id(id);
        CHECK_FALSE(bench.ring.take_used());
        CHECK(bench.violations(Violation::never_offered) == 1);
        CHECK(bench.ring.broken());
        CHECK_FALSE(bench.ring.has_used());
        CHECK_FALSE(bench.add(3));
    }
}

TEST_CASE("a packed chain that was added and not yet published was not offered") {
    Bench bench;
    bench.add_and_publish(2);
    REQUIRE(bench.add(2));
    bench.device.use_id(2);
    CHECK_FALSE(bench.ring.take_used());
    CHECK(bench.violations(Violation::never_offered) == 1);
}

TEST_CASE("a packed chain used twice breaks the ring, and is named, in a later lap too") {
    Bench bench;
    bench.add_and_publish(3);
    const auto chains = bench.device.read_all();
    bench.device.use(chains[0], 1);
    bench.device.use(chains[0], 1);
    CHECK(bench.ring.take_used());
    CHECK_FALSE(bench.ring.take_used());
    CHECK(bench.violations(Violation::used_twice) == 1);
    CHECK(bench.ring.broken());

    Bench later;
    for (std::uint32_t turn = 0; turn < 6; ++turn) {
        REQUIRE(later.add(turn));
        later.ring.publish();
        later.device.use(*later.device.next(), 1);
        REQUIRE(later.ring.take_used());
    }
    REQUIRE(later.add(6));
    later.ring.publish();
    later.device.use_id(1);
    CHECK_FALSE(later.ring.take_used());
    CHECK(later.violations(Violation::used_twice) == 1);
}

TEST_CASE("a packed chain used before older ones is counted, and its slots and id wait for them") {
    Bench bench;
    bench.add_and_publish(4);
    const auto chains = bench.device.read_all();
    bench.device.use(chains[1], 1);
    CHECK(bench.ring.take_used()->cookie == 1);
    CHECK(bench.violations(Violation::out_of_order) == 1);
    CHECK_FALSE(bench.ring.has_room());
    bench.device.use(chains[0], 1);
    CHECK(bench.ring.take_used()->cookie == 0);
    CHECK(bench.violations(Violation::out_of_order) == 1);
    CHECK(bench.add(0));
    CHECK(bench.add(1));
    CHECK_FALSE(bench.add(2));
    CHECK_FALSE(bench.ring.broken());
}

TEST_CASE("packed chains of several lengths used in any order: slots come back with the oldest, and no id is lost") {
    Bench bench({.entries = 8, .most_segments = 3});
    std::mt19937 random(7);
    std::vector<FakePackedDevice::Chain> with_device;
    std::deque<std::uint32_t> expected;
    std::uint32_t added = 0;
    for (unsigned turn = 0; turn < 2000; ++turn) {
        while (bench.add(added, 1 + added % 3)) ++added;
        bench.ring.publish();
        for (auto& chain : bench.device.read_all()) with_device.push_back(chain);
        if (!with_device.empty()) {
            const auto chosen = with_device.begin() + static_cast<std::ptrdiff_t>(random() % with_device.size());
            expected.push_back(static_cast<std::uint32_t>(chosen->descriptors[0].address / 0x1000 - 1));
            bench.device.use(*chosen, 100);
            with_device.erase(chosen);
            CHECK(bench.ring.stands_at(bench.device.base()) == with_device.empty());
        }
        if (random() % 2 == 0) continue;
        for (; !expected.empty(); expected.pop_front()) {
            const auto used = bench.ring.take_used();
            REQUIRE(used);
            CHECK(used->cookie == expected.front());
        }
        CHECK_FALSE(bench.ring.take_used());
        CHECK(bench.ring.outstanding() == with_device.size());
    }
    CHECK(added > 1000);
    CHECK_FALSE(bench.ring.broken());
    CHECK(bench.ring.violations().total() == bench.violations(Violation::out_of_order));
}

TEST_CASE("VIRTIO 1.3, 2.8.1: a slot used with nothing in it breaks the ring, and is named") {
    Bench bench;
    bench.device.use_id(0);
    CHECK_FALSE(bench.ring.take_used());
    CHECK(bench.violations(Violation::used_index_jumped) == 1);

    Bench ahead;
    ahead.add_and_publish(1);
    ahead.device.use(*ahead.device.next(), 1);
    ahead.device.use_id(0);
    CHECK(ahead.ring.take_used());
    CHECK_FALSE(ahead.ring.take_used());
    CHECK(ahead.violations(Violation::used_index_jumped) == 1);
    CHECK(ahead.ring.broken());
}

TEST_CASE("more bytes written than a packed chain holds is counted, and never believed") {
    Bench bench({.entries = 4, .most_segments = 2});
    REQUIRE(bench.add(0, 2));
    bench.ring.publish();
    bench.device.use(*bench.device.next(), 201);
    CHECK(bench.ring.take_used()->written_bytes == 200);
    CHECK(bench.violations(Violation::written_too_much) == 1);

    Bench transmit;
    REQUIRE(transmit.add(0, 1, false));
    transmit.ring.publish();
    transmit.device.use(*transmit.device.next(), 1);
    CHECK(transmit.ring.take_used()->written_bytes == 0);
    CHECK(transmit.violations(Violation::written_too_much) == 1);
}

TEST_CASE("VIRTIO 1.3, 2.8.4: the length of a used descriptor without WRITE is not believed, and odd flags are named") {
    Bench bench;
    bench.add_and_publish(3);
    const auto chains = bench.device.read_all();
    bench.device.use_id(chains[0].id, 60);
    CHECK(bench.ring.take_used()->written_bytes == 0);
    CHECK(bench.violations(Violation::flags_wrong) == 1);
    constexpr std::uint16_t odd = PackedDescriptor::device_writes | PackedDescriptor::has_next;
    bench.device.use_id(chains[1].id, 60, odd);
    CHECK(bench.ring.take_used()->written_bytes == 60);
    CHECK(bench.violations(Violation::flags_wrong) == 2);
    bench.device.use_id(chains[2].id);
    CHECK(bench.ring.take_used());
    CHECK(bench.violations(Violation::flags_wrong) == 2);

    Bench transmit;
    REQUIRE(transmit.add(0, 1, false));
    transmit.ring.publish();
    transmit.device.use_id(0, 0, PackedDescriptor::device_writes);
    CHECK(transmit.ring.take_used());
    CHECK(transmit.violations(Violation::flags_wrong) == 1);
}

TEST_CASE("a packed ring's base: it starts at 0x80008000, and a stopped one stands behind what was used") {
    Bench bench({.entries = 5, .most_segments = 3});
    CHECK(bench.ring.base() == 0x8000'8000);
    CHECK(bench.ring.stands_at(bench.device.base()));
    REQUIRE(bench.add(0, 3));
    REQUIRE(bench.add(1, 1));
    bench.ring.publish();
    CHECK(bench.ring.stands_at(0x8000'8000));
    const auto chains = bench.device.read_all();
    CHECK_FALSE(bench.ring.stands_at(bench.device.base()));  // it would not find again what it has read
    bench.device.use(chains[0], 1);
    CHECK(bench.ring.stands_at((PackedBase{{.slot = 3}, {.slot = 3}}).raw()));
    bench.device.use(chains[1], 1);
    CHECK(bench.ring.stands_at(bench.device.base()));
    CHECK_FALSE(bench.ring.stands_at((PackedBase{{.slot = 3}, {.slot = 3}}).raw()));
    while (bench.ring.take_used()) {
    }
    CHECK(bench.ring.stands_at(bench.device.base()));
    REQUIRE(bench.add(2, 3));
    bench.ring.publish();
    bench.device.use(*bench.device.next(), 1);
    CHECK(bench.device.used == PackedPosition{.slot = 2, .wrap = false});
    CHECK(bench.ring.stands_at(bench.device.base()));
    CHECK_FALSE(bench.ring.stands_at(bench.device.base() ^ 0x8000));

    Bench hostile;
    hostile.add_and_publish(2);
    hostile.device.use_id(77);
    CHECK_FALSE(hostile.ring.stands_at(hostile.device.base()));
}
