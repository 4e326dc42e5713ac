/// PAGES on packed rings: stops, live restarts, fresh starts (docs/vrx.md, 9.5).

#include <doctest/doctest.h>

#include "tests/virtio/packed_pages_bench.hpp"

using namespace vitrine;
using test::PackedPagesBench;
using virtio::Delivery;
using virtio::PackedDescriptor;
using virtio::vrx::Answer;
using virtio::vrx::Mode;

namespace {

constexpr std::uint64_t none = ~std::uint64_t{0};
constexpr Answer granted = Answer::granted(Mode::pages);

std::uint16_t available_of(std::uint32_t base) {
    return static_cast<std::uint16_t>(base);
}
std::uint16_t used_of(std::uint32_t base) {
    return static_cast<std::uint16_t>(base >> 16);
}
Delivery copy(PackedPagesBench& bench) {
    const std::array<std::byte, 60> frame{};
    return bench.ring().deliver(std::array{std::span<const std::byte>(frame)}, {});
}
/// A standard driver's first buffer.
void post_buffer(PackedPagesBench& bench) {
    bench.driver().give_raw(test::GuestRam::guest_base + 0x8000, 2048, 5, PackedDescriptor::device_writes);
}

}  // namespace

TEST_CASE("VRX 9.5: a stop answers with the next credit to read and the next to use, and the ring goes on there") {
    for (const std::uint16_t entries : {3, 4, 7}) {
        PackedPagesBench bench({.entries = entries, .most_pages_of_frame = 1});
        bench.open();
        std::uint16_t kept = bench.pass()[0];
        for (unsigned round = 0; round < 40; ++round) {
            CAPTURE(round);
            if (round % 3 != 0) bench.driver().give({kept});  // read before the stop, or not
            if (round % 3 == 1) bench.ring().absorb();
            const std::size_t lent = bench.lent();
            const std::uint32_t base = bench.stop();
            CHECK(used_of(base) == bench.driver().seen());
            const std::uint32_t read = bench.driver().ahead_of_seen(available_of(base));
            CHECK(read == bench.driver().posted_ahead() - (round % 3 == 2 ? 1 : 0));
            CHECK(bench.lent() == lent);
            if (round % 3 == 0) bench.driver().give({kept});  // while it stands still
            bench.start(base);
            CHECK(bench.ring().lends());
            CHECK(bench.ring().text() == "pages, packed");
            CHECK(bench.ring().packed_pages_of_frame() == 1);
            CHECK_FALSE(bench.driver().has_used());  // no second answer
            kept = bench.pass()[0];
            CHECK(bench.driver().held() == 1);
            bench.audit();
        }
        CHECK(bench.counters().bad_returns == 0);
        CHECK(bench.counters().rx_reclaimed == 0);
        CHECK(bench.info.generation[0] == 0);
    }
}

TEST_CASE("VRX 9.5: what is staged at a stop is shown") {
    PackedPagesBench bench;
    bench.open();
    REQUIRE(bench.lend(2) == Delivery::delivered);
    const std::uint32_t base = bench.stop();
    CHECK(bench.driver().take().size() == 2);
    CHECK(used_of(base) == bench.driver().seen());
    bench.start(base);
    bench.ring().publish();
    CHECK(bench.driver().call.drain());
    bench.pass(2);
    CHECK(bench.ring().held() == 4);
}

TEST_CASE("VRX 9.5: rings that stop often before anybody looks lose no credit and no page") {
    PackedPagesBench bench({.entries = 6});
    bench.open();
    const std::uint16_t page = bench.pass()[0];
    for (int i = 0; i < 5; ++i) bench.restart();
    bench.driver().give({page});
    for (int i = 0; i < 5; ++i) bench.restart();
    CHECK(bench.ring().held() == 0);
    for (unsigned i = bench.driver().posted_ahead(); i > 0; --i) bench.pass();
    for (int i = 0; i < 5; ++i) bench.restart();  // with no credit at all
    CHECK_FALSE(bench.driver().has_used());
    bench.driver().give();
    bench.pass();
    CHECK(bench.counters().rx_reclaimed == 0);
    bench.audit();
}

TEST_CASE("VRX 9.5: the limits of the marker hold after a live start, without a second one") {
    PackedPagesBench bench({.entries = 9, .most_pages_of_frame = 3, .held_limit = 4});
    bench.open();
    bench.pass(3);
    bench.restart();
    CHECK(bench.ring().held() == 3);
    CHECK(bench.lend(4) == Delivery::dropped);
    CHECK(bench.lend(2) == Delivery::held);
    bench.pass(1);
}

TEST_CASE("VRX 9.5: a live start with another base than the answer is none: the ring is a standard one") {
    PackedPagesBench bench({.entries = 8});
    bench.open();
    bench.pass();
    const std::uint32_t base = bench.stop();
    bench.start(base ^ 0x8000'8000);  // the other lap
    CHECK_FALSE(bench.ring().lends());
    CHECK(bench.lent() == 1);  // nobody came yet
    CHECK(bench.stop() == ((base ^ 0x8000'8000) >> 16) * 0x1'0001);
    bench.start(base);  // too late: it was started elsewhere in between
    CHECK_FALSE(bench.ring().lends());
    bench.audit();
}

TEST_CASE("VRX 9.5: credits that come between two looks at an undecided ring were not read before the stop") {
    PackedPagesBench bench({.entries = 4, .most_pages_of_frame = 1});
    REQUIRE(bench.open(bench.marker()) == granted);
    std::uint16_t page = 0;
    for (unsigned slot = 1; slot < 4; ++slot) {
        bench.driver().give();
        page = bench.pass()[0];
    }
    bench.restart();
    CHECK_FALSE(bench.ring().lends());
    bench.driver().give({page});
    bench.ring().prefetch(4);
    CHECK(bench.ring().lends());
    CHECK(bench.ring().held() == 2);
    CHECK(bench.counters().bad_returns == 0);
}

TEST_CASE("VRX 9.5: pages that were lent without the guest's bit 58 any more are not gone on with") {
    PackedPagesBench bench({.entries = 4});
    bench.open();
    const std::uint32_t base = bench.stop();
    REQUIRE((bench.device.features() & virtio::vrx::feature) != 0);
    bench.device.set_features(bench.device.features() & ~virtio::vrx::feature);
    bench.start(base);
    CHECK_FALSE(bench.ring().lends());
    CHECK(bench.ring().broken());
}

TEST_CASE("VRX 9.5: with pages lent, a front-end that lost the base leaves the ring idle or broken, and pages lent") {
    PackedPagesBench bench({.entries = 8});
    bench.open();
    bench.pass();
    const std::uint32_t base = bench.stop();
    const std::uint16_t used = used_of(base);
    bench.start(used | std::uint32_t{used} << 16);
    CHECK_FALSE(bench.ring().lends());  // the first available one is no marker
    CHECK(bench.ring().broken());       // nor a buffer, as none is empty
    CHECK(copy(bench) == Delivery::broken);
    CHECK(bench.lent() == 1);
    CHECK(bench.counters().rx_reclaimed == 0);
    CHECK(bench.info.generation[0] == 0);
    bench.audit();
}

TEST_CASE("VRX 9.5: a fresh driver at the very place where the ring stopped is told from a live one by its marker") {
    // An even number of laps after the start, and no credit: the base is that of a fresh ring.
    PackedPagesBench bench({.entries = 4, .most_pages_of_frame = 1});
    REQUIRE(bench.open(bench.marker()) == granted);
    for (unsigned slot = 1; slot < 8; ++slot) {
        bench.driver().give();
        bench.pass();
    }
    CHECK(bench.lent() == 7);
    CHECK(bench.stop() == bench.first_base);

    SUBCASE("it comes live, with a credit") {
        bench.start(bench.first_base);
        CHECK(bench.ring().packed_pages_of_frame() == 1);
        CHECK(bench.stop() == bench.first_base);
        bench.start(bench.first_base);
        CHECK_FALSE(bench.ring().lends());
        CHECK(copy(bench) == Delivery::no_buffer);
        bench.driver().give();
        CHECK(bench.ring().lends());
        CHECK(bench.ring().held() == 7);
        bench.pass();
        CHECK(bench.counters().rx_reclaimed == 0);
    }
    SUBCASE("it comes fresh, before the start") {
        CHECK(bench.open(bench.marker()) == granted);
        CHECK(bench.counters().rx_reclaimed == 7);
        CHECK(bench.info.generation[0] == 1);
        CHECK(bench.lent() == 0);
    }
    SUBCASE("it comes fresh, after the start and one more stop") {
        bench.driver().zero();
        bench.start(bench.first_base);
        bench.restart();
        CHECK_FALSE(bench.ring().lends());
        bench.driver().start(bench.marker());
        CHECK(bench.ring().lends());
        bench.ring().publish();
        CHECK(bench.driver().take_answer() == granted);
        CHECK(bench.lent() == 0);
        CHECK(bench.info.generation[0] == 1);
    }
    SUBCASE("a standard one comes") {
        bench.driver().zero();
        bench.start(bench.first_base);
        post_buffer(bench);
        CHECK_FALSE(bench.ring().lends());
        CHECK(bench.ring().text() == "copy, packed");
        CHECK(copy(bench) == Delivery::delivered);
        CHECK(bench.lent() == 0);
        CHECK(bench.info.generation[0] == 1);
    }
    SUBCASE("it comes fresh, with a marker that is refused; that is no start of PAGES, and takes nothing back") {
        PackedDescriptor other = bench.marker();
        other.address ^= 1;
        CHECK(bench.open(other) == Answer::refused(virtio::vrx::Refusal::other_region));
        CHECK(bench.ring().packed_pages_of_frame() == std::nullopt);
    }
    bench.audit();
}

TEST_CASE("VRX 7.1: a fresh start takes all pages of its queue back, counts a generation if there were any") {
    PackedPagesBench bench({.pairs = 2});
    bench.open(0);
    bench.open(1);
    CHECK(bench.info.generation[0] == 0);
    bench.pass(2, 0);
    bench.pass(1, 1);
    bench.open(0);
    CHECK(bench.lent(0) == 0);
    CHECK(bench.ring(0).held() == 0);
    CHECK(bench.lent(1) == 1);
    CHECK(bench.info.generation[0] == 1);
    CHECK(bench.info.generation[1] == 0);
    CHECK(bench.counters(0).rx_reclaimed == 2);
    bench.open(0);
    CHECK(bench.info.generation[0] == 1);
    bench.audit();
}

TEST_CASE("VRX 7.1: no stop, reset or disconnect takes pages back before somebody starts anew") {
    PackedPagesBench bench;
    bench.open();
    bench.pass(2);
    bench.stop();
    CHECK(bench.lent() == 2);
    bench.driver().zero();
    bench.start(bench.first_base);
    CHECK_FALSE(bench.ring().lends());
    CHECK(bench.lent() == 2);
    bench.audit();
}

TEST_CASE("VRX 7.1: a standard driver that follows one of pages is a fresh start, and gets its frames by copy") {
    PackedPagesBench bench;
    bench.open();
    bench.pass(2);
    bench.stop();
    bench.driver().zero();
    bench.start(bench.first_base);
    post_buffer(bench);
    CHECK_FALSE(bench.ring().lends());
    CHECK(bench.lent() == 0);
    CHECK(bench.info.generation[0] == 1);
    CHECK(copy(bench) == Delivery::delivered);
    bench.ring().publish();
    CHECK(bench.ring().text() == "copy, packed");
    CHECK(bench.driver().descriptor(0).id == 5);
    CHECK(bench.driver().descriptor(0).length_bytes == 72);
    CHECK(bench.stop() == 0x8001'8001);
    bench.start(0x8001'8001);
    post_buffer(bench);
    CHECK_FALSE(bench.ring().lends());
    CHECK(copy(bench) == Delivery::delivered);
    bench.open();  // and pages again
    bench.pass(2);
    bench.audit();
}

TEST_CASE("VRX 9.5: a ring that broke starts live where it stopped, breaks again, and says so each time") {
    PackedPagesBench bench({.entries = 8});
    bench.open();
    bench.pass();
    bench.driver().give_raw(none, 0, 0, 0);
    bench.ring().absorb();
    REQUIRE(bench.ring().broken());
    CHECK(bench.driver().error.drain());
    for (std::uint64_t breaks = 2; breaks < 5; ++breaks) {
        bench.restart();
        bench.ring().lends();
        bench.ring().absorb();
        bench.ring().publish();
        CHECK(bench.ring().broken());
        CHECK(bench.counters().ring_broken == breaks);
        CHECK(bench.driver().error.drain());
        CHECK(bench.lent() == 1);
    }
    bench.audit();
}

TEST_CASE("VRX 9.5: a ring whose first chain never ends is broken, for those who ask and for frames") {
    for (const bool live : {false, true}) {
        CAPTURE(live);
        PackedPagesBench bench({.entries = 4, .most_pages_of_frame = 1});
        std::uint32_t base = bench.first_base;
        if (live) {
            REQUIRE(bench.open(bench.marker()) == granted);
            for (unsigned slot = 1; slot < 4; ++slot) {
                bench.driver().give();
                bench.pass();
            }
            base = bench.stop();
        } else {
            bench.driver().zero();
        }
        for (int i = 0; i < 4; ++i) bench.driver().give_raw(none, 0, 0, 3);
        bench.start(base);
        CHECK_FALSE(bench.ring().lends());
        CHECK(bench.ring().broken());
        CHECK(copy(bench) == Delivery::broken);
        CHECK(bench.counters().rx_broken_ring == 1);
        bench.ring().publish();
        CHECK(bench.driver().error.drain());
        CHECK(bench.stop() == base);
        CHECK(bench.lent() == (live ? 3 : 0));
        bench.audit();
    }
}
