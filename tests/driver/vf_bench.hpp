#pragma once

#include <doctest/doctest.h>

#include "driver/vf.hpp"
#include "tests/driver/fake_nic.hpp"

namespace vitrine::tests {

inline constexpr driver::MacAddress fallback_mac{0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

/// A VF on a fake NIC. At the end nothing may have been done that silicon would not forgive.
struct VfBench {
    FakeNic nic;
    FakeClock clock;
    driver::Vf<FakeNic, FakeClock> vf{nic, clock};

    ~VfBench() {
        for (const std::string& violation : nic.violations) FAIL_CHECK(violation);
    }
};

}  // namespace vitrine::tests
