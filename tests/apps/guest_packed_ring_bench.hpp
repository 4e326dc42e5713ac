#pragma once

#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/packed_driver_ring.hpp"
#include "tests/apps/guest_fake_packed_device.hpp"

namespace vitrine::guest {

/// A ring, and the device at its other end.
struct PackedRingBench {
    explicit PackedRingBench(const RingConfig& wanted = {.entries = 4}) : config(wanted) {}

    bool add(std::uint32_t cookie, std::size_t segments = 1, bool device_writes = true) {
        std::vector<Segment> chain;
        for (std::size_t i = 0; i < segments; ++i)
            chain.push_back({mem::GuestPhys{0x1000 * (cookie + 1) + i}, 100, device_writes});
        return ring.add(chain, cookie);
    }
    void add_and_publish(std::uint32_t chains) {
        for (std::uint32_t cookie = 0; cookie < chains; ++cookie) REQUIRE(add(cookie));
        ring.publish();
    }
    std::uint64_t violations(Violation violation) const { return ring.violations().of(violation); }

    RingConfig config;
    GuestRam ram{1 << 20, mem::Backing::small_only};
    PackedDriverRing ring{ram, config};
    FakePackedDevice device{ram, ring};
};

}  // namespace vitrine::guest
