/// Drivers and device take random turns over page-lending rings; drivers also act between any two steps of the device's
/// burst and return path, and the device process dies there. Whatever happens no page is given twice or reused early,
/// none is lost, frames keep their order, and nobody waits for ever.

#include "tests/virtio/pages_model.hpp"

#include <array>
#include <cstdlib>

#include <doctest/doctest.h>

using namespace vitrine;
using test::PagesOptions;

namespace {

std::uint64_t frames_in_all() {
    return std::getenv("VITRINE_LONG") != nullptr ? 10'000'000 : 1'000'000;
}

void run_models(bool hostile, std::uint64_t frames) {
    std::uint32_t seed = hostile ? 1000 : 1;
    test::PagesModel::Tally sum;
    const std::array<std::uint16_t, 4> sizes{2, 4, 8, 16};
    constexpr unsigned variants = 8;
    for (const std::uint16_t entries : sizes)
        for (unsigned variant = 0; variant < variants; ++variant, ++seed) {
            const std::array<std::uint32_t, 4> limits{4u * entries, entries, 4, 1};
            PagesOptions options{.entries = entries, .event_index = (variant & 1) != 0};
            options.held_limit = limits[variant / 2];
            options.queues = 2;
            options.pages = 2 * options.held_limit + 16;
            CAPTURE(entries);
            CAPTURE(variant);
            test::PagesModel model(options, hostile, seed);
            model.run(frames / (sizes.size() * variants));
            sum.frames += model.tally.frames;
            sum.crashes += model.tally.crashes;
            sum.lost_in_crashes += model.tally.lost_in_crashes;
            sum.restarts += model.tally.restarts;
            sum.resets += model.tally.resets;
            sum.steps += model.tally.steps;
            sum.held_tries += model.tally.held_tries;
            sum.bad_returns += model.tally.bad_returns;
            sum.broken += model.tally.broken;
        }
    MESSAGE(sum.frames << " frames, " << sum.steps << " steps, " << sum.crashes << " deaths (" << sum.lost_in_crashes
                       << " frames lost in them), " << sum.restarts << " stops, " << sum.resets << " driver starts, "
                       << sum.held_tries << " times at the limit, " << sum.bad_returns << " bad returns, " << sum.broken
                       << " broken rings");
    CHECK(sum.crashes > sum.frames / 100);
    CHECK(sum.held_tries > 0);
    CHECK((sum.broken > 0) == hostile);
}

}  // namespace

TEST_CASE("pages model: drivers act and the device dies between any two steps, rings of 2 to 16") {
    run_models(false, frames_in_all());
}

TEST_CASE("pages model: a hostile driver harms no queue but its own") {
    run_models(true, frames_in_all() / 10);
}
