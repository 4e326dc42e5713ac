#include "virtio/vrx_start.hpp"

#include <cstring>

#include <doctest/doctest.h>

#include "tests/virtio/pages_bench.hpp"

using namespace vitrine;
using test::PagesMemory;
using test::PagesOptions;
using virtio::vrx::Answer;
using virtio::vrx::Marker;
using virtio::vrx::Mode;
using virtio::vrx::Refusal;

namespace {

struct Bench {
    explicit Bench(const PagesOptions& options = {}) : memory(options), device(memory) {}
    test::VrxDriver& driver() { return *memory.drivers[0]; }
    virtio::RingStart start(const Marker& marker, const virtio::PageLending* lending) {
        driver().start(marker);
        driver().give_credits(1);
        return virtio::read_marker(device.ring(0), lending, 0);
    }
    virtio::RingStart start(const Marker& marker) { return start(marker, &device.lending); }

    PagesMemory memory;
    test::PagesDevice<> device;
};

}  // namespace

TEST_CASE("VRX 3.2: a ring whose last descriptor has no magic is a standard one") {
    Bench bench;
    for (const std::uint64_t address : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0xfffe'5857'4433'2211},
                                        std::uint64_t{0x7ffe'5856'4433'2211}}) {
        const auto start = bench.start({.magic_and_tag = address, .mode_and_version = 0x103, .release_index = 0});
        CHECK(start.mode == Mode::standard);
        CHECK(start.answer.none());
    }
}

TEST_CASE("VRX 3.2: the marker asks for a mode, in the version and with the tag of the region") {
    Bench bench;
    const Marker good = PagesMemory::marker();
    CHECK(good == Marker{0xfffe'5856'4433'2211, 0x103, 0});
    CHECK(bench.start(good).mode == Mode::pages);
    CHECK_FALSE(bench.start(good).live);
    Marker offset = PagesMemory::marker(Mode::offset);
    offset.release_index = 2176;
    CHECK(bench.start(offset).mode == Mode::offset);
    CHECK(bench.start(offset).buffer_bytes == 2176);
}

TEST_CASE("VRX 3.4: a marker that cannot be followed is refused, with the reason") {
    Bench bench;
    const auto refusal = [&](auto change, Mode mode = Mode::pages) {
        Marker marker = PagesMemory::marker(mode);
        marker.release_index = mode == Mode::offset ? 4096 : 0;
        change(marker);
        const auto start = bench.start(marker);
        CHECK(start.mode == Mode::standard);
        CHECK(start.answer.is_refusal());
        return start.answer;
    };
    const auto reason = [](Refusal why) { return Answer::refused(why); };
    CHECK(refusal([](Marker& marker) { marker.mode_and_version = 0x203; }) == reason(Refusal::unknown_version));
    CHECK(refusal([](Marker& marker) { marker.mode_and_version = 0x3; }) == reason(Refusal::unknown_version));
    CHECK(refusal([](Marker& marker) { marker.mode_and_version |= 1u << 31; }) == reason(Refusal::unknown_version));
    for (const std::uint32_t mode : {0u, 1u, 4u, 255u})
        CHECK(refusal([&](Marker& marker) { marker.mode_and_version = 0x100 | mode; }) == reason(Refusal::not_offered));
    CHECK(refusal([](Marker& marker) { marker.magic_and_tag ^= 1; }) == reason(Refusal::other_region));
    CHECK(refusal([](Marker& marker) { marker.release_index = 2175; }, Mode::offset) == reason(Refusal::too_small));
}

TEST_CASE("VRX 3.4: where the operator allows nothing, every marker is refused; it can be nothing else") {
    Bench bench;
    CHECK(bench.start(PagesMemory::marker(), nullptr).answer == Answer::refused(Refusal::not_offered));
    const virtio::PageLending offset_only(bench.device.pool, bench.device.ledger, bench.memory.info,
                                          bench.memory.headers, mem::InfoPage::offers_offset, 8);
    CHECK(bench.start(PagesMemory::marker(), &offset_only).answer == Answer::refused(Refusal::not_offered));
    const virtio::PageLending pages_only(bench.device.pool, bench.device.ledger, bench.memory.info,
                                         bench.memory.headers, mem::InfoPage::offers_pages, 8);
    CHECK(bench.start(PagesMemory::marker(Mode::offset), &pages_only).answer == Answer::refused(Refusal::not_offered));
}

TEST_CASE("VRX 3.4: a refusal is final until the ring is zeroed, whatever a restarted device allows by then") {
    Bench bench;
    const Answer refusal = bench.start(PagesMemory::marker(), nullptr).answer;
    bench.device.ring(0).set_answer(refusal);
    CHECK(virtio::read_marker(bench.device.ring(0), &bench.device.lending, 0).mode == Mode::standard);
    CHECK(virtio::read_marker(bench.device.ring(0), &bench.device.lending, 0).answer == refusal);
    const Marker none{};
    std::memcpy(bench.memory.ram.at(bench.driver().marker_offset()), &none, sizeof(none));
    CHECK(virtio::read_marker(bench.device.ring(0), &bench.device.lending, 0).answer.none());
    CHECK(bench.start(PagesMemory::marker()).mode == Mode::pages);
}

TEST_CASE("VRX 4: a ring of one entry is refused, one of two is not") {
    Bench one({.entries = 1});
    CHECK(one.start(PagesMemory::marker()).answer == Answer::refused(Refusal::too_small));
    Bench two({.entries = 2});
    CHECK(two.start(PagesMemory::marker()).mode == Mode::pages);
}

TEST_CASE("VRX 3.3: the answer is in used.flags beside NO_NOTIFY, and the driver is called for it") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        Bench bench({.event_index = event_index});
        bench.driver().start(PagesMemory::marker());
        bench.driver().u16(bench.driver().available_offset()).store(virtio::available_no_interrupt);
        bench.driver().give_credits(1);
        CHECK(bench.driver().answer().none());
        REQUIRE(bench.device.open(0)->mode == Mode::pages);
        CHECK(bench.driver().answer() == Answer::granted(Mode::pages));
        CHECK((bench.driver().used_flags() & 0xff) == (event_index ? 0 : virtio::used_no_notify));
        bench.device.queues[0]->publish();
        CHECK(bench.driver().call.drain());
        bench.device.queues[0]->want_kicks(true);
        CHECK(bench.driver().answer() == Answer::granted(Mode::pages));
        CHECK((bench.driver().used_flags() & 0xff) == virtio::vrx::used_want_returns);
        bench.device.queues[0]->want_kicks(false);
        CHECK((bench.driver().used_flags() & 0xff) == (event_index ? 0 : virtio::used_no_notify));
    }
}

TEST_CASE("VRX 7.1: a ring is live if it was answered before, and fresh after its driver zeroed it") {
    Bench bench;
    bench.driver().start(PagesMemory::marker());
    bench.driver().give_credits(1);
    bench.device.open(0);
    CHECK(virtio::read_marker(bench.device.ring(0), &bench.device.lending, 0).live);
    CHECK_FALSE(bench.start(PagesMemory::marker()).live);
}

TEST_CASE("VRX 7.1: a live ring whose marker names another region is refused, not taken for fresh") {
    Bench bench;
    bench.driver().start(PagesMemory::marker());
    bench.driver().give_credits(1);
    bench.device.open(0);
    const Marker other = Marker::of(Mode::pages, 0x5555'5555);
    std::memcpy(bench.memory.ram.at(bench.driver().marker_offset()), &other, sizeof(other));
    const auto start = virtio::read_marker(bench.device.ring(0), &bench.device.lending, 0);
    CHECK(start.mode == Mode::standard);
    CHECK(start.answer == Answer::refused(Refusal::other_region));
}
