/// What a ring that pages are lent to keeps over a start, a stop and the death of the process.

#include <algorithm>
#include <set>

#include <doctest/doctest.h>

#include "tests/virtio/pages_queue_bench.hpp"

using namespace vitrine;
using Bench = test::PagesQueueBench;

TEST_CASE("VRX 7.1: a fresh start takes every page of the queue back and says so by the generation") {
    Bench bench({.queues = 2});
    CHECK(bench.memory.info.generation[0] == 0);
    bench.pass_one();
    bench.deliver();
    bench.queue().publish();
    CHECK(bench.lent() == 2);
    bench.start(77);
    CHECK(bench.lent() == 0);
    CHECK(bench.queue().held() == 0);
    CHECK(bench.device->pool.available() == 64);
    CHECK(bench.memory.info.generation[0] == 1);
    CHECK(bench.memory.info.generation[1] == 0);
    CHECK(bench.counters().rx_reclaimed == 2);
    bench.start();
    CHECK(bench.memory.info.generation[0] == 1);
}

TEST_CASE("VRX 7.2: a stop and a start take nothing back, and SET_VRING_BASE could say what it likes") {
    Bench bench;
    const std::uint16_t page = bench.pass_one().page();
    bench.deliver();
    bench.queue().show();
    const std::uint16_t used = bench.queue().used_index();
    bench.device->queues[0].reset();
    REQUIRE(bench.device->open(0)->live);
    CHECK(bench.queue().used_index() == used);
    CHECK(bench.queue().held() == 2);
    CHECK(bench.memory.info.generation[0] == 0);
    CHECK(bench.driver().take().has_value());
    bench.return_page(page);
    bench.queue().absorb();
    CHECK(bench.queue().held() == 1);
    CHECK(bench.counters().bad_returns == 0);
}

TEST_CASE("VRX 7.5: after a restart held pages stay held, and returns that came meanwhile are read") {
    Bench bench;
    std::vector<std::uint16_t> held;
    for (unsigned frame = 0; frame < 6; ++frame) {
        held.push_back(bench.pass_one().page());
        bench.driver().give_credits(1);
    }
    bench.return_page(held[3]);
    bench.return_page(held[0]);
    bench.die();
    CHECK(bench.queue().held() == 4);
    CHECK(bench.memory.info.generation[0] == 0);
    std::set<std::uint32_t> given;
    while (bench.device->pool.available() > 0) given.insert(mem::index_of(bench.device->pool.take(mem::Holder::nic)));
    CHECK(given.size() == 60);
    for (const std::size_t i : {1, 2, 4, 5}) CHECK_FALSE(given.contains(held[i]));
}

TEST_CASE("VRX 7.5: returns that a dead process had carried out are not held against the guest; others are") {
    Bench bench;
    std::vector<std::uint16_t> held;
    for (unsigned frame = 0; frame < 4; ++frame) {
        held.push_back(bench.pass_one().page());
        bench.driver().give_credits(1);
    }
    for (const std::uint16_t page : {held[0], held[1], held[2], held[1], std::uint16_t{64}}) bench.return_page(page);
    for (const std::size_t i : {0, 1}) bench.device->ledger.take_back(mem::PageId{held[i]});  // and died
    bench.die();
    CHECK(bench.queue().held() == 1);
    CHECK(bench.counters().bad_returns == 2);  // held[1] once more, behind one that was not yet carried out; and 64
    bench.return_page(held[0]);
    bench.queue().absorb();
    CHECK(bench.counters().bad_returns == 3);
}

TEST_CASE("VRX 7.5: pages that were lent but never shown are free after a restart") {
    Bench bench;
    bench.pass_one();
    const std::vector<std::byte> ring(bench.memory.ram.bytes().begin(), bench.memory.ram.bytes().end());
    bench.deliver(3);
    bench.queue().publish();
    CHECK(bench.lent() == 4);
    std::ranges::copy(ring, bench.memory.ram.bytes().begin());  // died in front of the store of used.idx
    bench.die();
    CHECK(bench.queue().held() == 1);
    CHECK(bench.device->pool.available() == 63);
    CHECK(bench.pass_one().page() < 64);
}

TEST_CASE("VRX 11: whatever a guest writes to its rings between starts, each page stays in one hand") {
    Bench bench;
    for (unsigned round = 0; round < 300; ++round) {
        bench.deliver(1 + round % 3);
        bench.queue().publish();
        // It goes back in time, so that what it saw seems unseen; or forward.
        bench.driver().u16(bench.driver().used_offset() + 2).store(static_cast<std::uint16_t>(round % 7 * 3));
        bench.driver().u16(bench.driver().available_offset() + 2).store(static_cast<std::uint16_t>(round % 7 * 3 + 8));
        bench.die();
        const auto audit = bench.device->pool.audit();
        REQUIRE(audit.free_list_agrees);
        REQUIRE(audit.total() == 64);
        REQUIRE(audit.held[static_cast<std::size_t>(mem::Holder::guest)] == bench.lent());
        REQUIRE(bench.queue().held() == bench.lent());
    }
}
