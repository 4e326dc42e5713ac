#include "apps/vitrine/iova_space.hpp"

#include <doctest/doctest.h>

using vitrine::apps::IovaSpace;
using vitrine::driver::IovaRange;
using vitrine::mem::Iova;

namespace {

constexpr std::uint64_t gib = std::uint64_t{1} << 30;
constexpr std::uint64_t end_of_39_bits = std::uint64_t{1} << 39;
constexpr IovaRange below_interrupts{0, 0xfedf'ffff};

/// As Intel's IOMMU lists them: the interrupt window is missing.
std::vector<IovaRange> intel(unsigned bits) {
    return {below_interrupts, {0xfef0'0000, (std::uint64_t{1} << bits) - 1}};
}

}  // namespace

TEST_CASE("mappings start at 4 GiB, on huge-page borders, and never overlap") {
    IovaSpace space(intel(39));
    const auto first = space.take(1);
    const auto second = space.take(IovaSpace::alignment + 1);
    const auto third = space.take(1);
    REQUIRE(third.has_value());
    CHECK(first->raw == IovaSpace::lowest);
    CHECK(second->raw == IovaSpace::lowest + IovaSpace::alignment);
    CHECK(third->raw == second->raw + 2 * IovaSpace::alignment);
}

TEST_CASE("a gap is used again, by what fits into it") {
    IovaSpace space(intel(39));
    const auto first = space.take(2 * IovaSpace::alignment);
    const auto second = space.take(1);
    space.give(*first);
    CHECK(space.take(3 * IovaSpace::alignment)->raw > second->raw);
    CHECK(space.take(2 * IovaSpace::alignment)->raw == first->raw);
}

TEST_CASE("what does not fit is refused") {
    IovaSpace space({{4 * gib, end_of_39_bits - 1}});
    CHECK_FALSE(space.take(0).has_value());
    CHECK_FALSE(space.take(end_of_39_bits).has_value());
    CHECK_FALSE(space.take(~std::uint64_t{0}).has_value());
    const auto all = space.take(end_of_39_bits - IovaSpace::lowest);
    REQUIRE(all.has_value());
    CHECK_FALSE(space.take(1).has_value());
    space.give(*all);
    CHECK(space.take(1).has_value());
}

TEST_CASE("48 bits have room for more than 39, and no address is beyond them") {
    IovaSpace narrow(intel(39)), wide(intel(48));
    CHECK_FALSE(narrow.take(end_of_39_bits).has_value());
    const auto large = wide.take(end_of_39_bits);
    REQUIRE(large.has_value());
    CHECK(large->raw == IovaSpace::lowest);
    CHECK_FALSE(wide.take(std::uint64_t{1} << 48).has_value());
}

TEST_CASE("nothing is put into a hole between the ranges") {
    IovaSpace space({{4 * gib, 4 * gib + 3 * IovaSpace::alignment - 2}, {8 * gib, 9 * gib - 1}});
    CHECK(space.take(3 * IovaSpace::alignment)->raw == 8 * gib);
    CHECK(space.take(2 * IovaSpace::alignment)->raw == 4 * gib);
    CHECK(space.take(gib - 3 * IovaSpace::alignment)->raw == 8 * gib + 3 * IovaSpace::alignment);
    CHECK_FALSE(space.take(1).has_value());
}

TEST_CASE("an IOMMU of 32 bits is used below 4 GiB, without address 0 and without the interrupt window") {
    IovaSpace space({below_interrupts, {0xfef0'0000, 0xffff'ffff}});
    const auto first = space.take(IovaSpace::alignment);
    REQUIRE(first.has_value());
    CHECK(first->raw == IovaSpace::alignment);
    const auto rest = space.take(0xfee0'0000 - 2 * IovaSpace::alignment);
    REQUIRE(rest.has_value());
    CHECK(rest->raw == 2 * IovaSpace::alignment);
    CHECK(space.take(IovaSpace::alignment)->raw == 0xff00'0000);
}

TEST_CASE("all of 64 bits is a range like any other") {
    IovaSpace space({{0, ~std::uint64_t{0}}});
    CHECK(space.take(gib)->raw == IovaSpace::lowest);
    CHECK(space.take(end_of_39_bits)->raw == IovaSpace::lowest + gib);
}

TEST_CASE("what was taken fits another IOMMU only if it has all of it in its ranges") {
    IovaSpace space(intel(48));
    CHECK(space.fits({}));
    const auto piece = space.take(IovaSpace::alignment);
    CHECK(space.fits(intel(39)));
    CHECK(space.fits({{piece->raw, piece->raw + IovaSpace::alignment - 1}}));
    CHECK_FALSE(space.fits({{piece->raw, piece->raw + IovaSpace::alignment - 2}}));
    CHECK_FALSE(space.fits({below_interrupts}));
    space.give(*piece);
    CHECK(space.fits({below_interrupts}));
}
