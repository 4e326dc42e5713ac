#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "apps/guest/virtio_pci.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {

/// A PCI function that no driver of the kernel has, through its files in sysfs. Throws std::system_error that names
/// what stands in the way. Only root may.
class PciFunction {
public:
    /// Another `root` than /sys is for tests.
    explicit PciFunction(std::string address, const std::string& root = "/sys");

    const std::string& address() const { return address_; }
    std::array<std::byte, pci_config_bytes> config() const;
    std::uint16_t device() const { return word(2); }
    mem::FileDescriptor open_bar(unsigned bar, int flags) const;

    /// Lets the function answer at its BARs, and nothing more.
    void enable_memory() { set_command(memory_space, 0); }
    /// Lets it read and write memory as well; without interrupts by wire, which nobody would take.
    void enable_bus_master() { set_command(memory_space | bus_master | no_interrupts, 0); }
    void disable_bus_master() { set_command(0, bus_master); }

    /// The addresses of all functions of this kind.
    static std::vector<std::string> find(std::uint16_t vendor, std::uint16_t device, const std::string& root = "/sys");

private:
    static constexpr std::uint16_t memory_space = 1u << 1;
    static constexpr std::uint16_t bus_master = 1u << 2;
    static constexpr std::uint16_t no_interrupts = 1u << 10;
    std::uint16_t word(unsigned at) const;
    void set_command(std::uint16_t on, std::uint16_t off);

    std::string address_;
    std::string directory_;
    mem::FileDescriptor config_;
};

}  // namespace vitrine::guest
