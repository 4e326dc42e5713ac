#include "apps/vitrine/iova_space.hpp"

#include <doctest/doctest.h>

using vitrine::apps::IovaSpace;

TEST_CASE("mappings start at 4 GiB, on huge-page borders, and never overlap") {
    IovaSpace space;
    const auto first = space.take(1);
    const auto second = space.take(IovaSpace::alignment + 1);
    const auto third = space.take(1);
    REQUIRE(third.has_value());
    CHECK(first->raw == IovaSpace::lowest);
    CHECK(second->raw == IovaSpace::lowest + IovaSpace::alignment);
    CHECK(third->raw == second->raw + 2 * IovaSpace::alignment);
}

TEST_CASE("a gap is used again, by what fits into it") {
    IovaSpace space;
    const auto first = space.take(2 * IovaSpace::alignment);
    const auto second = space.take(1);
    space.give(*first);
    CHECK(space.take(3 * IovaSpace::alignment)->raw > second->raw);
    CHECK(space.take(2 * IovaSpace::alignment)->raw == first->raw);
}

TEST_CASE("what does not fit below 39 bits is refused") {
    IovaSpace space;
    CHECK_FALSE(space.take(0).has_value());
    CHECK_FALSE(space.take(IovaSpace::end).has_value());
    CHECK_FALSE(space.take(~std::uint64_t{0}).has_value());
    const auto all = space.take(IovaSpace::end - IovaSpace::lowest);
    REQUIRE(all.has_value());
    CHECK_FALSE(space.take(1).has_value());
    space.give(*all);
    CHECK(space.take(1).has_value());
}
