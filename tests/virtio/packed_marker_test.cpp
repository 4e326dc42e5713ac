/// The marker of a packed ring of pages, and its answer (docs/vrx.md, 9.1).

#include <doctest/doctest.h>

#include "tests/virtio/packed_pages_bench.hpp"

using namespace vitrine;
using test::PackedPagesBench;
using test::PackedPagesOptions;
using virtio::Delivery;
using virtio::PackedDescriptor;
using virtio::vrx::Answer;
using virtio::vrx::Mode;
using virtio::vrx::Refusal;

namespace {

constexpr std::uint64_t none = ~std::uint64_t{0};
constexpr Answer granted = Answer::granted(Mode::pages);

}  // namespace

TEST_CASE("VRX 9.1: the marker, and the answer in its slot") {
    PackedPagesBench bench;
    const PackedDescriptor marker = bench.marker();
    CHECK(marker.address == 0xfffe'5856'4433'2211);
    CHECK(marker.length_bytes == 0x0002'0103);
    CHECK(marker.id == 0xfffe);
    CHECK(marker.flags == 2);
    CHECK(bench.open(marker) == granted);
    const PackedDescriptor answer = bench.driver().descriptor(0);
    CHECK(answer.address == 0);
    CHECK(answer.length_bytes == 3);
    CHECK(answer.id == 0xfffe);
    CHECK(answer.flags == 0x8082);
    CHECK(bench.driver().breach == "");
    CHECK(bench.ring().text() == "pages, packed");
    CHECK(bench.ring().packed_pages_of_frame() == 2);
    CHECK(bench.counters().elements == 0);
}

TEST_CASE("VRX 9.1: the driver is called for the answer, whatever it wishes") {
    for (const bool good : {false, true}) {
        PackedPagesBench bench;
        bench.driver().start(good ? bench.marker() : PackedDescriptor{0xfffe'5856'0000'0000, 0x20103, 0xfffe, 2});
        bench.driver().set_events(virtio::EventSuppression::disable);
        bench.start(bench.first_base);
        bench.ring().publish();
        bench.driver().call.drain();  // for the start
        CHECK(bench.ring().lends() == good);
        bench.ring().publish();
        CHECK(bench.driver().call.drain());
        CHECK(bench.driver().take_answer().has_value());
    }
}

TEST_CASE("VRX 9.1: the answer is there after a stop that comes before it was shown") {
    PackedPagesBench bench;
    bench.driver().start(bench.marker());
    bench.start(bench.first_base);
    REQUIRE(bench.ring().lends());
    CHECK(bench.stop() == 0x8001'8001);
    CHECK(bench.driver().take_answer() == granted);
    bench.start(0x8001'8001);
    bench.driver().give_all();
    bench.pass();
}

TEST_CASE("VRX 9.1: a marker that cannot be followed is refused, with the reason, and the ring stays idle") {
    const auto refusal = [](auto change, const PackedPagesOptions& options = {}) {
        PackedPagesBench bench(options);
        PackedDescriptor marker = bench.marker();
        change(marker);
        const auto answer = bench.open(marker);
        REQUIRE(answer);
        CHECK(bench.driver().breach == "");
        if (answer == granted) return *answer;
        CHECK(bench.counters().rx_refused == 1);
        CHECK_FALSE(bench.ring().lends());
        for (int i = 0; i < 3; ++i) bench.driver().give_raw(none);
        const std::array<std::byte, 60> frame{};
        CHECK(bench.ring().deliver(std::array{std::span<const std::byte>(frame)}, {}) == Delivery::broken);
        CHECK_FALSE(bench.ring().has_waiting());
        CHECK_FALSE(bench.ring().publish());
        CHECK_FALSE(bench.ring().broken());
        CHECK_FALSE(bench.driver().has_used());
        return *answer;
    };
    const auto reason = [](Refusal why) { return Answer::refused(why); };
    const auto nothing = [](PackedDescriptor&) {};
    const auto length = [](std::uint32_t wanted) {
        return [wanted](PackedDescriptor& marker) { marker.length_bytes = wanted; };
    };
    CHECK(refusal(nothing) == granted);
    for (const std::uint32_t mode : {0u, 1u, 2u, 4u, 255u})
        CHECK(refusal(length(0x2'0100 | mode)) == reason(Refusal::not_offered));
    CHECK(refusal(nothing, {.features = 0}) == reason(Refusal::not_offered));
    CHECK(refusal(nothing, {.modes = 0}) == reason(Refusal::not_offered));
    CHECK(refusal(nothing, {.modes = mem::InfoPage::offers_pages | mem::InfoPage::offers_offset}) ==
          reason(Refusal::not_offered));
    CHECK(refusal(length(0x2'0003)) == reason(Refusal::unknown_version));
    CHECK(refusal(length(0x2'0203)) == reason(Refusal::unknown_version));
    CHECK(refusal([](auto& marker) { marker.address ^= 1; }) == reason(Refusal::other_region));
    CHECK(refusal([](auto& marker) { marker.address ^= 1u << 31; }) == reason(Refusal::other_region));

    // k = 0, or k and the slots that the driver keeps back do not fit.
    const auto of = [](std::uint16_t entries, std::uint16_t most_pages) {
        return PackedPagesOptions{.entries = entries, .most_pages_of_frame = most_pages};
    };
    CHECK(refusal(nothing, of(7, 0)) == reason(Refusal::too_small));
    CHECK(refusal(nothing, of(1, 1)) == reason(Refusal::too_small));
    CHECK(refusal(nothing, of(2, 1)) == granted);
    CHECK(refusal(nothing, of(2, 2)) == reason(Refusal::too_small));
    CHECK(refusal(nothing, of(5, 4)) == granted);
    CHECK(refusal(nothing, of(6, 5)) == reason(Refusal::too_small));
    CHECK(refusal(nothing, of(7, 5)) == granted);
    CHECK(refusal(nothing, of(7, 0xffff)) == reason(Refusal::too_small));
}

TEST_CASE("VRX 9.1: what has no magic, another name or is no single descriptor is no marker") {
    const auto is_marker = [](auto change) {
        PackedPagesBench bench;
        PackedDescriptor marker = bench.marker();
        change(marker);
        bench.driver().start(marker);
        bench.start(bench.first_base);
        CHECK_FALSE(bench.ring().lends());
        bench.ring().publish();
        return bench.driver().has_used();
    };
    CHECK_FALSE(is_marker([](auto& marker) { marker.address ^= std::uint64_t{1} << 32; }));
    CHECK_FALSE(is_marker([](auto& marker) { marker.address ^= std::uint64_t{1} << 63; }));
    CHECK_FALSE(is_marker([](auto& marker) { marker.id = 0xffff; }));
    CHECK_FALSE(is_marker([](auto& marker) { marker.flags |= PackedDescriptor::indirect; }));
    CHECK(is_marker([](auto& marker) { marker.length_bytes = 0; }));  // and it is refused
}

TEST_CASE("VRX 9.1: a refused ring that stops and starts with credits behind its marker is not written to") {
    PackedPagesBench bench({.modes = 0});
    CHECK(bench.open(bench.marker()) == Answer::refused(Refusal::not_offered));
    for (int i = 0; i < 3; ++i) bench.driver().give_raw(none);
    bench.restart();
    CHECK_FALSE(bench.ring().lends());
    const std::array<std::byte, 60> frame{};
    CHECK(bench.ring().deliver(std::array{std::span<const std::byte>(frame)}, {}) == Delivery::broken);
    bench.ring().publish();
    CHECK_FALSE(bench.driver().has_used());
}
