#include "tools/vf_sim/config_space.hpp"

#include <algorithm>

#include "driver/registers.hpp"

namespace vitrine::vf_sim {
namespace {

constexpr std::size_t command = 0x04;
constexpr unsigned memory_enable = 1u << 1, bus_master_enable = 1u << 2, intx_disable = 1u << 10;
constexpr unsigned bar_64_bit = 0x4;
constexpr std::uint32_t bar_bytes = driver::bar0_bytes;  // BAR3 is as large
constexpr std::uint32_t msix_enable_and_mask = 0xc000;
constexpr std::size_t device_control_high = ConfigSpace::express_capability + 9;
constexpr std::byte initiate_reset{0x80};
constexpr std::uint32_t function_level_reset = 1u << 28;
constexpr std::uint32_t role_based_errors = 1u << 15;

}  // namespace

ConfigSpace::ConfigSpace(Part part) {
    put(0x00, 0x8086, 2);
    put(0x02, device_id(part), 2);
    put(command, 0, 2, memory_enable | bus_master_enable | intx_disable);
    put(0x06, 0x0010, 2);      // has a capability list
    put(0x08, 0x02000001, 4);  // Ethernet controller, revision 1
    put(0x10, bar_64_bit, 8, ~std::uint64_t{bar_bytes - 1});
    put(0x1c, bar_64_bit, 8, ~std::uint64_t{bar_bytes - 1});
    put(0x2c, 0x000c8086, 4);
    put(0x34, msix_capability, 1);
    put(msix_capability, 0x11 | express_capability << 8, 2);
    put(msix_capability + 2, driver::vectors - 1, 2, msix_enable_and_mask);
    put(msix_capability + 4, 0x0000 | 3, 4);  // table: offset 0 of BAR3
    put(msix_capability + 8, 0x2000 | 3, 4);  // pending bits
    put(express_capability, 0x10, 2);         // last in the list
    put(express_capability + 2, 0x0002, 2);   // version 2, endpoint
    put(express_capability + 4, function_level_reset | role_based_errors, 4);
    bytes_ = initial_;
}

void ConfigSpace::put(std::size_t offset, std::uint64_t value, unsigned bytes, std::uint64_t writable) {
    for (unsigned i = 0; i < bytes; ++i) {
        initial_[offset + i] = static_cast<std::byte>(value >> (8 * i));
        writable_[offset + i] = static_cast<std::byte>(writable >> (8 * i));
    }
}

void ConfigSpace::read(std::size_t offset, std::span<std::byte> to) const {
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
}

bool ConfigSpace::write(std::size_t offset, std::span<const std::byte> from) {
    bool reset_wanted = false;
    for (std::size_t i = 0; i < from.size(); ++i) {
        const std::size_t at = offset + i;
        bytes_[at] = (bytes_[at] & ~writable_[at]) | (from[i] & writable_[at]);
        if (at == device_control_high && (from[i] & initiate_reset) != std::byte{0}) reset_wanted = true;
    }
    return reset_wanted;
}

bool ConfigSpace::bus_master() const {
    return (bytes_[command] & std::byte{bus_master_enable}) != std::byte{0};
}

}  // namespace vitrine::vf_sim
