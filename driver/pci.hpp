#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "driver/device.hpp"
#include "driver/failure.hpp"

namespace vitrine::driver {

enum class Part : std::uint16_t {  ///< PCI device id of the virtual function
    intel_82599 = 0x10ed,
    x540 = 0x1515,
    x550 = 0x1565,
    x552 = 0x15a8,
    x553 = 0x15c5,
};

/// Which part this is. Throws std::system_error (ENODEV) when it is not a virtual function that we can drive.
template <Device D>
Part identify(D& device) {
    constexpr std::uint16_t intel = 0x8086;
    constexpr std::array parts{Part::intel_82599, Part::x540, Part::x550, Part::x552, Part::x553};
    const std::uint16_t vendor = device.read_config(0x00);
    const auto part = static_cast<Part>(device.read_config(0x02));
    if (vendor != intel || std::ranges::find(parts, part) == parts.end()) {
        std::array<char, 10> name{};
        std::snprintf(name.data(), name.size(), "%04x:%04x", unsigned{vendor}, unsigned{std::to_underlying(part)});
        fail(ENODEV, std::string(name.data()) + " is no virtual function of an 82599, X540 or X550");
    }
    return part;
}

/// Lets the function use memory and answer BAR accesses. Neither VFIO nor a vfio-user server does it for us.
template <Device D>
void enable_bus_master(D& device) {
    constexpr std::uint32_t command = 0x04;
    constexpr std::uint16_t memory_space = 1u << 1;
    constexpr std::uint16_t bus_master = 1u << 2;
    device.write_config(command, static_cast<std::uint16_t>(device.read_config(command) | memory_space | bus_master));
}

}  // namespace vitrine::driver
