#pragma once

#include <cstdint>
#include <random>

#include "tests/support/vrx_driver.hpp"
#include "tests/virtio/pages_bench.hpp"

namespace vitrine::test {

/// One act of a driver that does what it likes with its ring at `ring_at`, and now and then what a good one would.
inline void act_hostile(VrxDriver& bad, const PagesOptions& options, std::uint64_t ring_at, std::mt19937& random) {
    const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
    bad.breach.clear();
    switch (below(8)) {
        case 0:
            bad.give_credits(static_cast<std::uint16_t>(below(3) == 0 ? random() : 1));
            break;
        case 1:
        case 2:
            for (unsigned count = below(8); count > 0; --count)
                bad.give_back(static_cast<std::uint16_t>(below(static_cast<unsigned>(options.pages) + 2)));
            bad.publish_returns();
            break;
        case 3:
            if (below(8) == 0) bad.set_release_index(static_cast<std::uint32_t>(random()));
            bad.publish_returns();
            break;
        case 4:  // any 16 bits of its ring
            if (below(4) == 0)
                bad.u16(ring_at + random() % (bad.bytes() / 2 * 2) / 2 * 2).store(static_cast<std::uint16_t>(random()));
            break;
        default:
            while (const auto element = bad.take()) bad.give_back(element->word.page());
            bad.publish_returns();
            if (bad.owed_credits() <= options.entries) bad.give_credits(bad.owed_credits());
    }
    bad.breach.clear();
}

}  // namespace vitrine::test
