#include "mem/page_ledger.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

constexpr std::uint32_t pages = 100;
constexpr std::uint32_t queues = 2;
constexpr PageLedger::Identity identity{
    .device = 1, .inode = 2, .instance = {3}, .page_bytes = 2048, .page_count = pages, .queues = queues};

struct Bench {
    std::vector<std::byte> memory = std::vector<std::byte>(PageLedger::bytes_for(pages, queues));
    PageLedger ledger = PageLedger::make(memory, identity);
    NoSteps no_steps;
};

}  // namespace

TEST_CASE("VRX 7.5: a ledger is found again as it was left, and knows its region") {
    Bench bench;
    bench.ledger.lend(1, PageId{7});
    bench.ledger.lend(0, PageId{99});
    bench.ledger.set_seen(1, 0x1'0001);
    bench.ledger.next_generation(0);
    const auto found = PageLedger::in(bench.memory);
    REQUIRE(found.has_value());
    CHECK(found->identity() == identity);
    CHECK(found->is_lent_to(1, PageId{7}));
    CHECK_FALSE(found->is_lent_to(0, PageId{7}));
    CHECK(found->is_lent(PageId{99}));
    CHECK(found->lent_to(0) == 1);
    CHECK(found->lent_to(1) == 1);
    CHECK(found->seen(1) == 0x1'0001);
    CHECK(found->generation(0) == 1);
    CHECK(found->generation(1) == 0);
}

TEST_CASE("VRX 7.5: a ledger that is cut short, spoiled, or says it is larger than it is, is none") {
    Bench bench;
    CHECK_FALSE(PageLedger::in(std::span(bench.memory).first(8)).has_value());
    CHECK_FALSE(PageLedger::in(std::span(bench.memory).first(bench.memory.size() - 1)).has_value());
    auto larger = bench.memory;
    larger.push_back(std::byte{0});
    CHECK_FALSE(PageLedger::in(larger).has_value());
    PageLedger::spoil(bench.memory);
    CHECK_FALSE(PageLedger::in(bench.memory).has_value());
    CHECK_FALSE(PageLedger::in({}).has_value());
}

TEST_CASE("VRX 7.5: the journal names its pages for one used index alone") {
    Bench bench;
    const std::vector<PageId> burst{PageId{5}, PageId{1}, PageId{98}};
    CHECK(bench.ledger.journal(0, 0).empty());
    bench.ledger.write_journal(0, 65535, burst, bench.no_steps);
    CHECK(std::ranges::equal(bench.ledger.journal(0, 65535), std::vector<std::uint16_t>{5, 1, 98}));
    CHECK(bench.ledger.journal(0, 2).empty());
    CHECK(bench.ledger.journal(1, 65535).empty());
    bench.ledger.clear_journal(0);
    CHECK(bench.ledger.journal(0, 65535).empty());
}

TEST_CASE(
    "VRX 7.5: whenever a process dies while it writes the journal, the entry is the old one, void, or the new one") {
    Bench bench;
    bench.ledger.write_journal(0, 10, std::vector{PageId{1}, PageId{2}}, bench.no_steps);  // then used.idx became 12
    unsigned steps = 0;
    unsigned whole = 0;
    const auto look = [&] {
        const auto ledger = PageLedger::in(bench.memory);
        REQUIRE(ledger.has_value());
        const auto pages_now = ledger->journal(0, 12);
        if (!pages_now.empty()) {
            CHECK(std::ranges::equal(pages_now, std::vector<std::uint16_t>{3, 4, 5}));
            ++whole;
        }
        ++steps;
    };
    bench.ledger.write_journal(0, 12, std::vector{PageId{3}, PageId{4}, PageId{5}}, look);
    CHECK(steps == 4);
    CHECK(whole == 1);
}
