#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "driver/clock.hpp"
#include "driver/registers.hpp"

namespace vitrine::driver {

struct Link {
    bool up = false;
    std::uint32_t speed_mbps = 0;  ///< 0 when down or unknown

    friend bool operator==(const Link&, const Link&) = default;
};

/// Reads VFLINKS. A link that was down must show up six times in a row, 100 µs apart, before it is believed: that of an
/// 82599 with SFP+ or direct-attach cable flickers for up to 500 µs. Control thread only.
template <RegisterSpace Space, Clock C>
Link read_link(Space& bar, C& clock, const Link& before) {
    auto status = read<VFLINKS>(bar);
    for (int repeat = 0; repeat < 5 && !before.up && status.get(VFLINKS::up); ++repeat) {
        clock.sleep_for(std::chrono::microseconds(100));
        status = read<VFLINKS>(bar);
    }
    if (!status.get(VFLINKS::up)) return {};
    constexpr std::array<std::uint32_t, 4> speeds{10, 100, 1'000, 10'000};
    constexpr std::array<std::uint32_t, 4> non_standard{0, 5'000, 0, 2'500};
    const std::uint32_t speed = status.get(VFLINKS::speed);
    return {true, status.get(VFLINKS::non_standard_speed) ? non_standard[speed] : speeds[speed]};
}

}  // namespace vitrine::driver
