#include "virtio/pages_queue.hpp"

#include <cstring>

#include <doctest/doctest.h>

#include "tests/virtio/pages_queue_bench.hpp"

using namespace vitrine;
using test::PagesMemory;
using virtio::vrx::UsedPage;
using Bench = test::PagesQueueBench;
using Queue = virtio::PagesQueue;
using Outcome = Queue::Outcome;

TEST_CASE("VRX 4.1: an element has page, offset and length, and flags only where they belong") {
    Bench bench;
    const std::array pieces{Queue::Piece{bench.fresh_page(), 50, 1998}, Queue::Piece{bench.fresh_page(), 0, 2048},
                            Queue::Piece{bench.fresh_page(), 2047, 1}};
    REQUIRE(bench.queue().deliver(pieces, {.checksum_ok = true}) == Outcome::delivered);
    CHECK_FALSE(bench.driver().has_used());  // 4.3: all together, and not before publish()
    bench.queue().publish();
    const auto first = bench.driver().take();
    const auto second = bench.driver().take();
    const auto third = bench.driver().take();
    REQUIRE(third.has_value());
    CHECK(first->word.raw ==
          UsedPage::of(mem::index_of(pieces[0].page), 50, 1998, UsedPage::next | UsedPage::checksum_ok).raw);
    CHECK(second->word.raw == UsedPage::of(mem::index_of(pieces[1].page), 0, 2048, UsedPage::next).raw);
    CHECK(third->word.raw == UsedPage::of(mem::index_of(pieces[2].page), 2047, 1).raw);
    CHECK_FALSE(bench.driver().has_used());
    CHECK(bench.driver().breach == "");
    CHECK(bench.counters().frames == 1);
    CHECK(bench.counters().elements == 3);
    CHECK(bench.counters().bytes == 1998 + 2048 + 1);
    static_assert(UsedPage::of(0xfffe, 0, 65536).length_bytes() == 65536);
}

TEST_CASE("VRX 2.4: a header lies in the slot of the frame's first page, and says all of it") {
    Bench bench;
    const virtio::NetHeader header{.flags = virtio::NetHeader::needs_checksum, .checksum_start = 34, .buffers = 2};
    REQUIRE(bench.deliver(2, {.checksum_ok = true, .header = &header}) == Outcome::delivered);
    bench.queue().publish();
    const UsedPage first = bench.driver().take()->word;
    CHECK(first.has(UsedPage::header));
    CHECK_FALSE(first.has(UsedPage::checksum_ok));
    CHECK_FALSE(bench.driver().take()->word.has(UsedPage::header));
    virtio::NetHeader seen;
    std::memcpy(&seen, bench.memory.headers.data() + 32 * first.page(), sizeof(seen));
    CHECK(seen.flags == header.flags);
    CHECK(seen.checksum_start == 34);
    CHECK(seen.buffers == 2);
}

TEST_CASE("VRX 4.2: credits are used slots: none left, no frame; and heads in avail.ring mean nothing") {
    Bench bench({.entries = 4});
    for (unsigned frame = 0; frame < 4; ++frame) REQUIRE(bench.deliver() == Outcome::delivered);
    CHECK(bench.deliver() == Outcome::no_buffer);
    CHECK(bench.counters().rx_no_buffer_tries == 1);
    bench.queue().publish();
    CHECK(bench.deliver() == Outcome::no_buffer);
    bench.driver().take();
    bench.driver().give_credits(1);
    CHECK(bench.deliver() == Outcome::delivered);
    CHECK(bench.deliver() == Outcome::no_buffer);
}

TEST_CASE("VRX 4.2: more credits than slots break the ring; nothing is touched then, and no page is lost") {
    for (const std::uint16_t start : {0, 0xfffe}) {
        Bench bench({.entries = 4});
        bench.start(start);
        REQUIRE(bench.deliver() == Outcome::delivered);
        bench.driver().u16(bench.driver().available_offset() + 2).store(static_cast<std::uint16_t>(start + 5));
        CHECK(bench.deliver(4) == Outcome::broken);
        CHECK(bench.queue().broken());
        CHECK(bench.driver().error.drain());
        bench.queue().publish();
        CHECK(bench.driver().used_index() == start);
        CHECK(bench.deliver() == Outcome::broken);
        CHECK(bench.device->pool.available() == 64);
        CHECK(bench.lent() == 0);
        CHECK(bench.counters().ring_broken == 1);
        CHECK(bench.counters().rx_broken_ring == 3);
    }
}

TEST_CASE("VRX 4.3: a frame waits for all its credits, and one with more pages than the ring has slots is dropped") {
    Bench bench({.entries = 4});
    REQUIRE(bench.deliver(3) == Outcome::delivered);
    CHECK(bench.deliver(2) == Outcome::no_buffer);
    CHECK(bench.deliver(5) == Outcome::dropped);
    CHECK(bench.counters().rx_oversize == 1);
    CHECK(bench.deliver(1) == Outcome::delivered);
    Bench limited({.entries = 8, .held_limit = 3});
    CHECK(limited.deliver(4) == Outcome::dropped);
    CHECK(limited.deliver(3) == Outcome::delivered);
}

TEST_CASE("VRX 4.4: pages come back in any order, several at once, over the wrap of the release index") {
    Bench bench({.entries = 2, .held_limit = 8});
    std::vector<std::uint16_t> held;
    for (unsigned frame = 0; frame < 1000; ++frame) {
        held.push_back(bench.pass_one().page());
        bench.driver().give_credits(1);
        if (held.size() < 8) continue;
        CHECK(bench.deliver() == Outcome::held);
        for (const std::size_t i : {5, 1, 2, 0, 6, 3, 7, 4}) bench.driver().give_back(held[i]);
        held.clear();
        bench.driver().publish_returns();
    }
    bench.queue().absorb();
    CHECK(bench.queue().held() == held.size());
    CHECK(bench.counters().bad_returns == 0);
    CHECK(bench.counters().rx_held_max == 8);

    // 32 bits wrap as well.
    bench.device->ledger.set_seen(0, 0xffff'fffe);
    bench.driver().set_release_index(0xffff'fffe);
    bench.driver().publish_returns();
    bench.die();
    for (unsigned frame = 0; frame < 8; ++frame) {
        bench.return_page(bench.pass_one().page());
        bench.driver().give_credits(1);
        bench.queue().absorb();
    }
    CHECK(bench.driver().release_index() == 6);
    CHECK(bench.counters().bad_returns == 0);
    CHECK_FALSE(bench.queue().broken());
}

TEST_CASE("VRX 4.4: pages returned twice, never had, another queue's, or beyond the last are ignored and counted") {
    Bench bench({.queues = 2});
    bench.memory.drivers[1]->start(PagesMemory::marker());
    bench.memory.drivers[1]->give_credits(8);
    bench.device->open(1);
    const std::array other{Queue::Piece{bench.fresh_page(), 0, 60}};
    REQUIRE(bench.device->queues[1]->deliver(other, {}) == Outcome::delivered);
    bench.device->queues[1]->publish();

    const std::uint16_t mine = bench.pass_one().page();
    const std::size_t available = bench.device->pool.available();
    for (const std::uint16_t page : {mine, mine, static_cast<std::uint16_t>(mem::index_of(other[0].page)),
                                     std::uint16_t{64}, std::uint16_t{0xffff}, std::uint16_t{0}})
        bench.driver().give_back(page);
    bench.driver().publish_returns();
    CHECK(bench.queue().absorb() == 6);
    CHECK(bench.counters().bad_returns == 5);
    CHECK(bench.device->pool.available() == available + 1);
    CHECK(bench.device->ledger.is_lent_to(1, other[0].page));
    CHECK(bench.queue().held() == 0);
}

TEST_CASE("VRX 4.4: a page that is staged but not shown cannot be returned yet") {
    Bench bench;
    const mem::PageId page = bench.fresh_page();
    REQUIRE(bench.queue().deliver(std::array{Queue::Piece{page, 0, 60}}, {}) == Outcome::delivered);
    bench.return_page(static_cast<std::uint16_t>(mem::index_of(page)));
    bench.queue().absorb();
    CHECK(bench.counters().bad_returns == 1);
    bench.queue().publish();
    CHECK(bench.driver().take()->word.page() == mem::index_of(page));
    CHECK(bench.device->pool.holder(page) == mem::Holder::guest);
}

TEST_CASE("VRX 4.4: 4N entries may wait in the release ring, one more breaks it") {
    Bench bench({.entries = 4});
    bench.driver().set_release_index(16);
    bench.driver().publish_returns();
    CHECK(bench.queue().absorb() == 16);
    CHECK_FALSE(bench.queue().broken());
    bench.driver().set_release_index(33);
    bench.driver().publish_returns();
    CHECK(bench.queue().absorb() == 0);
    CHECK(bench.queue().broken());
    CHECK(bench.driver().error.drain());
    CHECK(bench.deliver() == Outcome::broken);
}

TEST_CASE("VRX 4.4: what is absorbed in one turn is bounded") {
    Bench bench({.entries = 256});
    bench.driver().set_release_index(1024);
    bench.driver().publish_returns();
    unsigned turns = 0;
    while (const std::size_t entries = bench.queue().absorb()) {
        CHECK(entries <= 256);
        ++turns;
    }
    CHECK(turns == 4);
}

TEST_CASE("VRX 4.5: a driver that returns nothing starves its own queue; the other's frames go on") {
    Bench bench({.entries = 8, .pages = 32, .held_limit = 10, .queues = 2});
    bench.memory.drivers[1]->start(PagesMemory::marker());
    bench.memory.drivers[1]->give_credits(8);
    bench.device->open(1);
    for (unsigned frame = 0; frame < 10; ++frame) {
        bench.pass_one();
        bench.driver().give_credits(1);
    }
    CHECK(bench.deliver() == Outcome::held);
    CHECK(bench.counters().rx_held_tries == 1);
    for (unsigned frame = 0; frame < 100; ++frame) {
        REQUIRE(bench.device->pool.available() >= 32 - 10 - 10);
        REQUIRE(bench.device->queues[1]->deliver(std::array{Queue::Piece{bench.fresh_page(), 0, 60}}, {}) ==
                Outcome::delivered);
        bench.device->queues[1]->publish();
        test::VrxDriver& honest = *bench.memory.drivers[1];
        honest.give_back(honest.take()->word.page());
        honest.publish_returns();
        honest.give_credits(1);
    }
    CHECK(bench.deliver() == Outcome::held);
}

TEST_CASE("VRX 4.5: the limit is 4N pages where held_limit is more") {
    Bench bench({.entries = 2, .held_limit = 100});
    for (unsigned frame = 0; frame < 8; ++frame) {
        bench.pass_one();
        bench.driver().give_credits(1);
    }
    CHECK(bench.deliver() == Outcome::held);
}

TEST_CASE("VRX 4.6: returned pages kick a device that asked for it, whether or not EVENT_IDX was agreed") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        Bench bench({.held_limit = 1, .event_index = event_index});
        const std::uint16_t page = bench.pass_one().page();
        CHECK(bench.deliver() == Outcome::held);
        bench.driver().kick.drain();  // of the first credits
        bench.driver().publish_returns();
        CHECK_FALSE(bench.driver().kick.drain());
        bench.queue().want_kicks(true);
        CHECK(bench.deliver() == Outcome::held);
        bench.return_page(page);
        CHECK(bench.driver().kick.drain());
        CHECK(bench.deliver() == Outcome::delivered);
        bench.queue().want_kicks(false);
        bench.driver().publish_returns();
        CHECK_FALSE(bench.driver().kick.drain());
    }
}

TEST_CASE("VRX 4.6: used buffer notifications follow used.idx, one for each publication that passes the event") {
    Bench bench;
    bench.queue().publish();
    bench.driver().call.drain();  // for the answer
    bench.driver().sleep();
    for (unsigned frame = 0; frame < 3; ++frame) bench.deliver();
    bench.queue().publish();
    CHECK(bench.driver().call.drain());
    bench.deliver();
    bench.queue().publish();
    CHECK_FALSE(bench.driver().call.drain());
    CHECK(bench.counters().calls_suppressed == 1);
}
