#include "apps/vitrine/retry_pause.hpp"

#include <doctest/doctest.h>

namespace vitrine::apps {
namespace {

using namespace std::chrono_literals;

constexpr RetryPause::Time start{1h};

TEST_CASE("the pauses between attempts double from a second to half a minute") {
    RetryPause pause;
    CHECK(pause.due(start));
    RetryPause::Time now = start;
    for (const auto length : {1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
        pause.failed(now);
        CHECK(pause.length() == length);
        CHECK_FALSE(pause.due(now + length - 1ns));
        CHECK(pause.due(now + length));
        now += length;
    }
}

TEST_CASE("what works for a moment only is tried less and less often") {
    RetryPause pause;
    pause.failed(start);
    pause.worked(start + 1s);
    pause.failed(start + 2s);
    CHECK(pause.length() == 2s);
    pause.worked(start + 4s);
    pause.worked(start + 33s);
    pause.failed(start + 33s);
    CHECK(pause.length() == 4s);
}

TEST_CASE("what worked for half a minute starts anew with a second") {
    RetryPause pause;
    for (int i = 0; i < 9; ++i) pause.failed(start);
    pause.worked(start + 30s);
    pause.worked(start + 40s);
    pause.failed(start + 60s);
    CHECK(pause.length() == 1s);
}

}  // namespace
}  // namespace vitrine::apps
