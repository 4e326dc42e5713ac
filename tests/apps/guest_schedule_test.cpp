#include <doctest/doctest.h>

#include "apps/guest/schedule.hpp"

using namespace vitrine::guest;
using namespace std::chrono_literals;

namespace {

const Clock::time_point start{100s};

}  // namespace

TEST_CASE("a run ends at its count") {
    EndRule rule({.frames = 10, .idle = 5s, .first = 30s}, start);
    CHECK_FALSE(rule.check(start + 1s, 9).has_value());
    CHECK(rule.check(start + 1s, 10) == Ending::count);
    CHECK(rule.check(start + 1s, 12) == Ending::count);
}

TEST_CASE("a run ends when nothing moved for the idle time after the first frame") {
    EndRule rule({.idle = 5s, .first = 30s}, start);
    CHECK_FALSE(rule.check(start + 20s, 0).has_value());
    CHECK_FALSE(rule.check(start + 21s, 1).has_value());
    CHECK_FALSE(rule.check(start + 25s, 2).has_value());
    CHECK_FALSE(rule.check(start + 29s, 2).has_value());
    CHECK(rule.check(start + 30s, 2) == Ending::idle);
    CHECK(rule.active() == 4s);
}

TEST_CASE("a sender that waits for its next turn is not idle") {
    EndRule rule({.idle = 5s, .first = 30s}, start);
    CHECK_FALSE(rule.check(start + 40s, 0, true).has_value());
    CHECK_FALSE(rule.check(start + 41s, 1).has_value());
    CHECK_FALSE(rule.check(start + 60s, 1, true).has_value());
    CHECK_FALSE(rule.check(start + 64s, 1).has_value());
    CHECK(rule.check(start + 65s, 1) == Ending::idle);
}

TEST_CASE("a run without a first frame says so, unless a time was given: then it waits that time") {
    EndRule untimed({.idle = 5s, .first = 30s}, start);
    CHECK_FALSE(untimed.check(start + 29s, 0).has_value());
    CHECK(untimed.check(start + 30s, 0) == Ending::nothing_came);

    EndRule timed({.time = 60s, .idle = 5s, .first = 30s}, start);
    CHECK_FALSE(timed.check(start + 59s, 0).has_value());
    CHECK(timed.check(start + 60s, 0) == Ending::seconds);
}

TEST_CASE("frames are due evenly, without drift over long runs") {
    const Pacer pacer(3, start);
    CHECK(pacer.due(start, 0));
    CHECK_FALSE(pacer.due(start + 333ms, 1));
    CHECK(pacer.due(start + 334ms, 1));
    CHECK(pacer.due_time(3) == start + 1s);
    CHECK(pacer.due_time(3'000'000) == start + 1'000'000s);
}

TEST_CASE("without a rate every frame is due at once") {
    const Pacer pacer(0, start);
    CHECK(pacer.due(start, 1'000'000));
}
