/// Drivers, the device and the front-end take random turns over packed rings of pages. Whatever happens no page is
/// given twice or reused early, none is lost, frames keep their order, and nobody waits for ever.

#include "tests/virtio/packed_pages_model.hpp"

#include <array>
#include <cstdlib>

#include <doctest/doctest.h>

using namespace vitrine;

namespace {

std::uint64_t frames_in_all() {
    return std::getenv("VITRINE_LONG") != nullptr ? 1'000'000 : 100'000;
}

void run_models(bool hostile, std::uint64_t frames) {
    std::uint32_t seed = hostile ? 1000 : 1;
    test::PackedPagesModel::Tally sum;
    constexpr unsigned sizes = 15;  // 2 to 16
    constexpr unsigned variants = 8;
    for (std::uint16_t entries = 2; entries < 2 + sizes; ++entries)
        for (unsigned variant = 0; variant < variants; ++variant, ++seed) {
            const std::array<std::uint32_t, 4> limits{4u * entries, entries, 4, 1};
            test::PackedPagesOptions options{.entries = entries, .pairs = 2, .event_index = variant % 2 != 0};
            const auto fits = [&](std::uint16_t wanted) { return wanted + (wanted + 3) / 4 <= entries; };
            options.most_pages_of_frame = static_cast<std::uint16_t>(1 + seed % 4);
            while (!fits(options.most_pages_of_frame)) --options.most_pages_of_frame;
            options.held_limit = limits[variant / 2];
            options.pages = 2 * options.held_limit + 16;
            CAPTURE(entries);
            CAPTURE(variant);
            test::PackedPagesModel model(options, hostile, seed);
            model.run(frames / (sizes * variants));
            sum.frames += model.tally.frames;
            sum.restarts += model.tally.restarts;
            sum.resets += model.tally.resets;
            sum.dropped += model.tally.dropped;
            sum.full += model.tally.full;
            sum.held_tries += model.tally.held_tries;
            sum.no_buffer_tries += model.tally.no_buffer_tries;
            sum.bad_returns += model.tally.bad_returns;
            sum.broken += model.tally.broken;
        }
    MESSAGE(sum.frames << " frames, " << sum.restarts << " stops, " << sum.resets << " driver starts, "
                       << sum.held_tries << " times at the limit, " << sum.no_buffer_tries << " without a credit, "
                       << sum.full << " full rings, " << sum.dropped << " frames too long, " << sum.bad_returns
                       << " bad returns, " << sum.broken << " broken rings");
    CHECK(sum.restarts > sum.frames / 100);
    CHECK(sum.held_tries > 0);
    CHECK(sum.no_buffer_tries > 0);
    CHECK(sum.full > 0);
    CHECK(sum.dropped > 0);
    CHECK((sum.broken > 0) == hostile);
    CHECK((sum.bad_returns > 0) == hostile);
}

}  // namespace

TEST_CASE("packed pages model: drivers by the rule of 9.2, and stops between any two turns, rings of 2 to 16") {
    run_models(false, frames_in_all());
}

TEST_CASE("packed pages model: a hostile driver harms no queue but its own") {
    run_models(true, frames_in_all() / 4);
}
