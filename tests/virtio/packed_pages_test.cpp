/// PAGES on packed rings: credits and returns, and frames (docs/vrx.md, 9.2 to 9.4).

#include <doctest/doctest.h>

#include "tests/virtio/packed_pages_bench.hpp"

using namespace vitrine;
using test::PackedPagesBench;
using virtio::Delivery;
using virtio::vrx::Answer;
using virtio::vrx::Mode;

namespace {

constexpr std::uint64_t none = ~std::uint64_t{0};
constexpr Answer granted = Answer::granted(Mode::pages);

/// An address that returns this page alone.
std::uint64_t returning(std::uint16_t page) {
    return (none << 16) | page;
}

}  // namespace

TEST_CASE("VRX 9.3: a used descriptor says page, offset, length and what is to be known of the frame") {
    PackedPagesBench bench({.entries = 9, .most_pages_of_frame = 3});
    bench.open();
    const virtio::NetHeader header{.flags = 1, .gso_type = 3};
    REQUIRE(bench.lend(1, {.checksum_ok = true}) == Delivery::delivered);
    REQUIRE(bench.lend(3, {.checksum_ok = true, .header = &header}) == Delivery::delivered);
    CHECK_FALSE(bench.driver().has_used());
    bench.ring().publish();
    const auto first = bench.driver().take();
    REQUIRE(first.size() == 1);
    CHECK(first[0].offset == 0);
    CHECK(first[0].length_bytes == 100);
    CHECK(first[0].checksum_ok);
    CHECK_FALSE(first[0].header);
    const auto second = bench.driver().take();
    REQUIRE(second.size() == 3);
    CHECK(second[0].header);
    CHECK_FALSE(second[0].checksum_ok);
    CHECK(second[2].offset == 128);
    CHECK(std::memcmp(bench.headers.data() + mem::header_slot_bytes * second[0].page, &header, sizeof(header)) == 0);
    CHECK(bench.driver().breach == "");
    CHECK(bench.counters().frames == 2);
    CHECK(bench.counters().elements == 4);
    CHECK(bench.lent() == 4);
    bench.audit();
}

TEST_CASE("VRX 9.3: a frame of several pages is seen at once, across the end of the ring too") {
    for (const std::uint16_t entries : {5, 6, 7, 8}) {
        PackedPagesBench bench({.entries = entries, .most_pages_of_frame = 4});
        bench.open();
        for (unsigned round = 0; round < 40; ++round) {
            const auto pages = bench.pass(1 + round % 4);
            for (const std::uint16_t page : pages) {
                bench.driver().give({page});
            }
            bench.ring().absorb();
            CHECK(bench.lent() == 0);
        }
        CHECK(bench.counters().bad_returns == 0);
        bench.audit();
    }
}

TEST_CASE("VRX 9.3: a frame of more pages than its driver is prepared for is dropped and counted") {
    PackedPagesBench bench({.entries = 16, .most_pages_of_frame = 3, .held_limit = 2});
    bench.open();
    CHECK(bench.lend(3) == Delivery::dropped);
    CHECK(bench.lend(4) == Delivery::dropped);
    CHECK(bench.counters().rx_oversize == 2);
    CHECK(bench.lend(2) == Delivery::delivered);
    PackedPagesBench more({.entries = 16, .most_pages_of_frame = 3});
    more.open();
    CHECK(more.lend(4) == Delivery::dropped);
    CHECK(more.lend(3) == Delivery::delivered);
}

TEST_CASE("VRX 9.2: each descriptor is a credit, and without one nothing is lent") {
    PackedPagesBench bench({.entries = 7});
    REQUIRE(bench.open(bench.marker()) == granted);
    CHECK(bench.lend() == Delivery::no_buffer);
    CHECK(bench.counters().rx_no_buffer_tries == 1);
    bench.driver().give();
    CHECK(bench.lend(2) == Delivery::no_buffer);
    bench.driver().give();
    CHECK(bench.pass(2).size() == 2);
    CHECK(bench.lend() == Delivery::no_buffer);
    bench.driver().give();
    bench.pass();
    bench.audit();
}

TEST_CASE("VRX 9.2: up to four pages come back with a credit, in any order and any place of its address") {
    PackedPagesBench bench({.entries = 7});
    bench.open();
    std::vector<std::uint16_t> pages;
    for (int i = 0; i < 5; ++i) pages.push_back(bench.pass()[0]);
    CHECK(bench.lent() == 5);
    bench.driver().give({pages[3], pages[0], pages[4], pages[1]});
    bench.ring().absorb();
    CHECK(bench.lent() == 1);
    CHECK(bench.ledger.is_lent_to(0, mem::PageId{pages[2]}));
    bench.driver().give_raw(static_cast<std::uint64_t>(pages[2]) << 48 | 0xffff'ffff'ffff);
    bench.ring().absorb();
    CHECK(bench.lent() == 0);
    CHECK(bench.counters().bad_returns == 0);
    CHECK(bench.ring().held() == 0);
    bench.audit();
}

TEST_CASE("VRX 9.2: returns of foreign, free and unknown pages are counted, and change nothing") {
    PackedPagesBench bench({.entries = 16, .pairs = 2});
    REQUIRE(bench.open(bench.marker(), 0) == granted);
    bench.driver(0).give();
    bench.open(1);
    const std::uint16_t mine = bench.pass(1, 0)[0];
    const std::uint16_t theirs = bench.pass(1, 1)[0];
    const std::uint16_t free = static_cast<std::uint16_t>(mem::index_of(bench.pool.take(mem::Holder::device)));
    bench.pool.give(mem::PageId{free});
    const auto bad = [&](std::uint16_t page) {
        const std::uint64_t before = bench.counters(0).bad_returns;
        bench.driver(0).give_raw(returning(page));
        bench.ring(0).absorb();
        return bench.counters(0).bad_returns - before;
    };
    CHECK(bad(theirs) == 1);
    CHECK(bad(free) == 1);
    CHECK(bad(64) == 1);
    CHECK(bad(0xfffe) == 1);
    CHECK(bench.ledger.is_lent_to(1, mem::PageId{theirs}));
    CHECK(bench.lent(0) == 1);
    bench.audit();
    CHECK(bad(mine) == 0);
    CHECK(bad(mine) == 1);
    bench.driver(0).give_raw(0);  // the same page four times
    bench.ring(0).absorb();
    CHECK(bench.counters(0).bad_returns == 9);
    CHECK_FALSE(bench.ring(0).broken());
    CHECK(bench.driver(0).breach == "");
    CHECK(bench.lent(0) == 0);
    CHECK(bench.ring(0).held() == 0);
    bench.audit();
}

TEST_CASE("VRX 9.2: a page that is returned twice in one descriptor comes back once") {
    PackedPagesBench bench;
    bench.open();
    const std::uint64_t page = bench.pass()[0];
    const std::size_t before = bench.pool.available();
    bench.driver().give_raw(page | page << 16 | page << 32 | page << 48);
    bench.ring().absorb();
    CHECK(bench.counters().bad_returns == 3);
    CHECK(bench.pool.available() == before + 1);
    bench.audit();
}

TEST_CASE("VRX 9.2: a credit that is chained, a table, read-only or not empty breaks the ring; lent pages stay lent") {
    for (const std::uint16_t flags : {2 | 1, 2 | 4, 0, 1, 4, 2}) {
        CAPTURE(flags);
        PackedPagesBench bench;
        bench.open();
        const std::uint16_t page = bench.pass()[0];
        const bool chained = (flags & 1) != 0;
        bench.driver().give_raw(returning(page), flags == 2 ? 2048 : 0, 0, flags);
        if (chained) bench.driver().give_raw(none);
        bench.ring().absorb();
        CHECK(bench.ring().broken());
        CHECK(bench.driver().error.drain());
        CHECK(bench.counters().ring_broken == 1);
        CHECK(bench.lent() == 1);
        CHECK(bench.lend() == Delivery::broken);
        CHECK(bench.counters().rx_broken_ring == 1);
        bench.ring().publish();
        CHECK(bench.driver().take().empty());
        CHECK(bench.ring().absorb() == 0);
        bench.audit();
        REQUIRE(bench.open(bench.marker()) == granted);
        CHECK(bench.lent() == 0);
    }
}

TEST_CASE("VRX 9.2: a chain into slots that are the device's breaks the ring before its returns are read") {
    PackedPagesBench bench({.entries = 3, .most_pages_of_frame = 1});
    bench.open();
    for (int i = 0; i < 2; ++i) bench.driver().give({bench.pass()[0]});
    bench.ring().absorb();
    const std::uint16_t page = bench.pass()[0];
    bench.driver().give_raw(returning(page), 0, 0, 3);
    bench.ring().absorb();
    CHECK(bench.ring().broken());
    CHECK(bench.lent() == 1);
}

TEST_CASE("VRX 9: what was taken for a guest whose ring breaks before it was shown is free again") {
    PackedPagesBench bench;
    REQUIRE(bench.open(bench.marker()) == granted);
    for (int i = 0; i < 3; ++i) bench.driver().give();
    REQUIRE(bench.lend(2) == Delivery::delivered);
    REQUIRE(bench.lend(1) == Delivery::delivered);
    bench.driver().give_raw(none, 0, 0, 0);
    bench.ring().absorb();
    REQUIRE(bench.ring().broken());
    bench.ring().publish();
    CHECK(bench.lent() == 0);
    CHECK(bench.ring().held() == 0);
    CHECK(bench.counters().rx_broken_ring == 2);
    CHECK(bench.driver().take().empty());
    bench.audit();
}

TEST_CASE("VRX 9.2: at the limit nothing is lent until pages come back, though there are credits") {
    PackedPagesBench bench({.entries = 16, .held_limit = 3});
    bench.open();
    std::vector<std::uint16_t> pages;
    for (int i = 0; i < 3; ++i) pages.push_back(bench.pass()[0]);
    CHECK(bench.lend() == Delivery::held);
    CHECK(bench.counters().rx_held_tries == 1);
    CHECK(bench.counters().rx_held_max == 3);
    bench.driver().give({pages[1]});
    CHECK(bench.lend(2) == Delivery::held);
    CHECK(bench.lend() == Delivery::delivered);  // reads the return first (9.4)
    bench.ring().publish();
    CHECK(bench.driver().take().size() == 1);
    CHECK(bench.driver().breach == "");
}

TEST_CASE("VRX 4.5: a guest never holds more than four pages for each slot") {
    PackedPagesBench bench({.entries = 2, .most_pages_of_frame = 1, .held_limit = 60});
    bench.open();
    std::size_t held = 0;
    while (bench.lend() == Delivery::delivered) {
        bench.ring().publish();
        REQUIRE(bench.driver().take().size() == 1);
        ++held;
        bench.driver().give_raw(none);  // against the rule of 9.2
    }
    CHECK(held == 8);
    CHECK(bench.counters().rx_held_tries == 1);
}

TEST_CASE("VRX 9.4: returns are read with no frame to lend, a bounded number in a turn, and make room for kicks") {
    PackedPagesBench bench({.entries = 300, .most_pages_of_frame = 1, .pages = 400, .held_limit = 300});
    bench.open();
    CHECK(bench.ring().absorb() > 0);
    while (bench.ring().absorb() != 0) {
    }
    for (int i = 0; i < 290; ++i) REQUIRE(bench.lend() == Delivery::delivered);
    bench.ring().publish();
    std::vector<std::uint16_t> pages;
    for (auto frame = bench.driver().take(); !frame.empty(); frame = bench.driver().take())
        pages.push_back(frame[0].page);
    REQUIRE(pages.size() == 290);
    bench.ring().want_kicks(true);
    bench.driver().kick.drain();
    for (const std::uint16_t page : pages) bench.driver().give({page});
    CHECK(bench.driver().kick.drain());
    CHECK(bench.ring().absorb() == 256);
    CHECK(bench.lent() == 226);
    while (bench.ring().absorb() != 0) {
    }
    CHECK(bench.lent() == 0);
    bench.ring().want_kicks(false);
    bench.audit();
}

TEST_CASE("VRX 7.1: a frame that meets the marker waits for the next burst, and is lent when there are credits") {
    PackedPagesBench bench;
    const std::array<std::byte, 60> frame{};
    const auto copy = [&] { return bench.ring().deliver(std::array{std::span<const std::byte>(frame)}, {}); };
    bench.driver().zero();
    bench.start(bench.first_base);
    CHECK_FALSE(bench.ring().lends());
    CHECK(copy() == Delivery::no_buffer);
    bench.driver().start(bench.marker());
    bench.driver().give();
    CHECK(copy() == Delivery::no_buffer);
    CHECK_FALSE(bench.ring().broken());
    CHECK(bench.ring().lends());
    CHECK(bench.lend() == Delivery::delivered);
}
