#include "virtio/device_ring.hpp"

#include <doctest/doctest.h>

#include "tests/virtio/queue_bench.hpp"

using namespace vitrine;
using test::QueueBench;
using virtio::Descriptor;
using virtio::DeviceRing;

namespace {

struct RingBench : QueueBench {
    explicit RingBench(const test::BenchOptions& wanted = {}) : QueueBench(wanted), device(ring(counters)) {}

    /// Walks what the driver put at the next position and counts what it saw.
    DeviceRing::Walk walk() {
        visited.clear();
        return device.walk(device.next(), head, [&](const Descriptor& descriptor) {
            visited.push_back(descriptor);
            return true;
        });
    }
    /// The descriptors begin at entry 0, and the ring says so.
    DeviceRing::Walk walk(const std::vector<Descriptor>& table) {
        for (std::uint16_t index = 0; index < table.size(); ++index) driver.set_descriptor(index, table[index]);
        driver.set_available(device.next(), 0);
        driver.set_available_index(static_cast<std::uint16_t>(device.next() + 1));
        REQUIRE(device.waiting(1) == 1);
        return walk();
    }
    /// A table for indirect descriptors, in buffer memory.
    std::uint64_t put_table(const std::vector<Descriptor>& table, std::uint64_t offset = data) {
        std::memcpy(ram.at(offset), table.data(), table.size() * sizeof(Descriptor));
        return ram.guest_base + offset;
    }
    bool error_signalled() { return error.drain(); }

    virtio::RingCounters counters;
    DeviceRing device;
    std::uint16_t head = 0;
    std::vector<Descriptor> visited;
};

constexpr Descriptor link(std::uint16_t next) {
    return {.address = test::GuestRam::guest_base + QueueBench::data,
            .length_bytes = 16,
            .flags = Descriptor::has_next,
            .next = next};
}
constexpr Descriptor end = {
    .address = test::GuestRam::guest_base + QueueBench::data, .length_bytes = 16, .flags = 0, .next = 0};
constexpr Descriptor table_at(std::uint64_t address, std::uint32_t bytes) {
    return {.address = address, .length_bytes = bytes, .flags = Descriptor::indirect, .next = 0};
}

}  // namespace

TEST_CASE("VIRTIO 1.3, 2.7.10: an event is passed exactly when the index steps over it") {
    for (unsigned start : {0u, 5u, 0x7fffu, 0xfffcu, 0xffffu})
        for (unsigned step = 0; step <= 300; ++step)
            for (unsigned offset = 0; offset <= 600; ++offset) {
                const auto before = static_cast<std::uint16_t>(start);
                const auto now = static_cast<std::uint16_t>(start + step);
                const auto event = static_cast<std::uint16_t>(start - 300 + offset);
                bool stepped_over = false;
                for (unsigned i = 0; i < step; ++i) stepped_over |= static_cast<std::uint16_t>(start + i) == event;
                if (virtio::passes_event(event, now, before) != stepped_over) FAIL(start, " ", step, " ", offset);
            }
    CHECK(virtio::passes_event(7, 8, 7));   // new = event + 1: the first one of interest
    CHECK(!virtio::passes_event(8, 8, 7));  // new = event: not yet
}

TEST_CASE("a ring starts at used.idx of guest memory") {
    RingBench bench({.start = 65'530});
    CHECK(bench.device.used() == 65'530);
    CHECK(bench.device.next() == 65'530);
}

TEST_CASE("an available index that runs ahead by more than the ring breaks it, once") {
    RingBench bench;
    bench.driver.set_available_index(9);
    CHECK(bench.device.waiting(1) == 0);
    CHECK(bench.device.broken());
    CHECK(bench.error_signalled());
    CHECK(bench.device.waiting(1) == 0);
    CHECK(!bench.device.has_waiting());
    CHECK(!bench.error_signalled());
    CHECK(bench.counters.ring_broken == 1);
}

TEST_CASE("an available index that runs ahead by the whole ring is a full ring") {
    RingBench bench({.start = 65'533});
    for (std::uint16_t i = 0; i < 8; ++i) bench.driver.post({{QueueBench::data, 16}}, false);
    CHECK(bench.device.waiting(1) == 8);
    CHECK(!bench.device.broken());
}

TEST_CASE("an available index that goes back breaks the ring") {
    RingBench bench;
    for (int i = 0; i < 4; ++i) bench.driver.post({{QueueBench::data, 16}}, false);
    REQUIRE(bench.device.waiting(4) == 4);
    REQUIRE(bench.walk() == DeviceRing::Walk::complete);
    bench.device.take(1);
    REQUIRE(bench.walk() == DeviceRing::Walk::complete);
    bench.device.take(1);
    bench.driver.set_available_index(1);
    CHECK(bench.device.waiting(8) == 0);
    CHECK(bench.device.broken());
}

TEST_CASE("chains are followed in order, direct and indirect") {
    RingBench bench;
    bench.driver.post({{bench.data, 10}, {bench.data + 100, 20}, {bench.data + 200, 30}}, false);
    REQUIRE(bench.device.waiting(1) == 1);
    REQUIRE(bench.walk() == DeviceRing::Walk::complete);
    REQUIRE(bench.visited.size() == 3);
    CHECK(bench.visited[2].length_bytes == 30);
    bench.device.take(1);
    bench.driver.post({{bench.data, 1}, {bench.data, 2}, {bench.data, 3}, {bench.data, 4}}, false, true);
    REQUIRE(bench.device.waiting(1) == 1);
    REQUIRE(bench.walk() == DeviceRing::Walk::complete);
    REQUIRE(bench.visited.size() == 4);
    CHECK(bench.visited[3].length_bytes == 4);
}

TEST_CASE("VIRTIO 1.3, 2.7.5.3.1: an indirect table may end a chain that began in the ring") {
    RingBench bench;
    const auto table = bench.put_table({link(1), end});
    CHECK(bench.walk({link(1), table_at(table, 32)}) == DeviceRing::Walk::complete);
    CHECK(bench.visited.size() == 3);
}

TEST_CASE("what is no chain breaks the ring and is never followed far") {
    RingBench bench;
    SUBCASE("a head beyond the table") {
        bench.driver.set_available(0, 8);
        bench.driver.set_available_index(1);
        REQUIRE(bench.device.waiting(1) == 1);
        CHECK(bench.walk() == DeviceRing::Walk::broken);
        CHECK(bench.visited.empty());
    }
    SUBCASE("a next beyond the table") {
        CHECK(bench.walk({link(8)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("a descriptor that follows itself") {
        CHECK(bench.walk({link(0)}) == DeviceRing::Walk::broken);
        CHECK(bench.visited.size() == 8);
    }
    SUBCASE("two that follow each other") {
        CHECK(bench.walk({link(1), link(0)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("a chain longer than the ring, in an indirect table") {
        std::vector<Descriptor> table;
        for (std::uint16_t i = 1; i <= 8; ++i) table.push_back(link(i));
        table.push_back(end);
        const auto address = bench.put_table(table);
        CHECK(bench.walk({table_at(address, 9 * 16)}) == DeviceRing::Walk::broken);
        CHECK(bench.visited.size() == 8);
    }
    SUBCASE("an indirect table inside another") {
        const auto inner = bench.put_table({end}, bench.data + 0x1000);
        const auto outer = bench.put_table({table_at(inner, 16)});
        CHECK(bench.walk({table_at(outer, 16)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table that is itself") {
        const auto table = bench.ram.guest_base;  // the ring's own descriptor table
        CHECK(bench.walk({table_at(table, 16)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table of no bytes") {
        CHECK(bench.walk({table_at(bench.put_table({end}), 0)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table with half a descriptor") {
        CHECK(bench.walk({table_at(bench.put_table({end}), 24)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table at an odd address") {
        CHECK(bench.walk({table_at(bench.put_table({end}) + 4, 16)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table that leaves guest memory") {
        const auto last = bench.ram.guest_base + QueueBench::ram_bytes - 16;
        CHECK(bench.walk({table_at(last, 32)}) == DeviceRing::Walk::broken);
    }
    SUBCASE("an indirect table in no memory at all") {
        CHECK(bench.walk({table_at(0, 16)}) == DeviceRing::Walk::broken);
        CHECK(bench.visited.empty());
    }
    SUBCASE("an indirect descriptor that goes on") {
        auto descriptor = table_at(bench.put_table({end}), 16);
        descriptor.flags |= Descriptor::has_next;
        CHECK(bench.walk({descriptor}) == DeviceRing::Walk::broken);
    }
    SUBCASE("a next beyond an indirect table, though not beyond the ring") {
        const auto table = bench.put_table({link(1)});
        CHECK(bench.walk({table_at(table, 16), end}) == DeviceRing::Walk::broken);
    }
    CHECK(bench.device.broken());
    CHECK(bench.error_signalled());
}

TEST_CASE("an indirect table that was not negotiated breaks the ring") {
    RingBench bench({.indirect = false});
    CHECK(bench.walk({table_at(bench.put_table({end}), 16)}) == DeviceRing::Walk::broken);
}

TEST_CASE("VIRTIO 1.3, 2.7.7: without the event index the driver's flag decides about interrupts") {
    RingBench bench({.event_index = false});
    for (int i = 0; i < 3; ++i) bench.driver.post({{QueueBench::data, 16}}, false);
    bench.device.take(3);
    bench.device.publish();
    CHECK(!bench.call.drain());  // nothing new
    bench.device.give_back(0, 0);
    bench.device.publish();
    CHECK(bench.call.drain());
    bench.driver.set_no_interrupt(true);
    bench.device.give_back(1, 0);
    bench.device.publish();
    CHECK(!bench.call.drain());
    CHECK(bench.counters.calls == 1);
    CHECK(bench.counters.calls_suppressed == 1);
}

TEST_CASE("VIRTIO 1.3, 2.7.7: with the event index one interrupt comes when used_event is passed") {
    RingBench bench({.start = 65'534});
    for (int i = 0; i < 4; ++i) bench.driver.post({{QueueBench::data, 16}}, false);
    bench.device.take(4);
    bench.driver.set_used_event(0);       // two ahead, over the wrap
    bench.driver.set_no_interrupt(true);  // has no meaning here
    for (std::uint16_t head = 0; head < 2; ++head) {
        bench.device.give_back(head, 0);
        bench.device.publish();
        CHECK(!bench.call.drain());
    }
    bench.device.give_back(2, 0);
    bench.device.give_back(3, 0);
    CHECK(bench.driver.used_index() == 0);  // not shown before publish()
    bench.device.publish();
    CHECK(bench.driver.used_index() == 2);
    CHECK(bench.call.drain());
}

TEST_CASE("the wish for kicks is a flag, or an index with the event index, whose flags stay 0") {
    SUBCASE("flag") {
        RingBench bench({.event_index = false});
        bench.device.want_kicks(false);
        CHECK(bench.driver.used_flags() == virtio::used_no_notify);
        bench.device.want_kicks(true);
        CHECK(bench.driver.used_flags() == 0);
    }
    SUBCASE("index") {
        RingBench bench({.start = 65'535});
        bench.driver.post({{QueueBench::data, 16}}, false);
        bench.device.take(1);
        bench.device.want_kicks(false);
        CHECK(bench.driver.used_flags() == 0);
        bench.device.want_kicks(true);
        CHECK(bench.driver.available_event() == 0);
        bench.driver.post({{QueueBench::data, 16}}, false);
        CHECK(virtio::passes_event(bench.driver.available_event(), bench.driver.posted(), 0));
        CHECK(bench.device.has_waiting());
    }
}

TEST_CASE("a flood of kicks is one read and one count") {
    RingBench bench;
    for (int i = 0; i < 1000; ++i) bench.kick.signal();
    bench.device.drain_kick();
    bench.device.drain_kick();
    CHECK(bench.counters.kicks == 1);
}
