#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tools/vf_sim/part.hpp"

namespace vitrine::vf_sim {

/// PCI configuration space of the VF (82599 data sheet, 9.5), as a function on a virtual bus shows it.
///
/// MODEL: silicon reads FFFF as vendor and device, has no BARs of its own, and does not advertise the function-level
/// reset that it has; whoever passes a VF on (vfio-pci, a VMM) puts these right, and so does this model.
class ConfigSpace {
public:
    static constexpr std::size_t size_bytes = 4096;
    static constexpr std::size_t msix_capability = 0x70;
    static constexpr std::size_t express_capability = 0xa0;

    explicit ConfigSpace(Part part);

    /// The range must lie inside.
    void read(std::size_t offset, std::span<std::byte> to) const;
    /// Only writable bits change. True when the write asks for a function-level reset.
    [[nodiscard]] bool write(std::size_t offset, std::span<const std::byte> from);
    void reset() { bytes_ = initial_; }
    bool bus_master() const;

private:
    void put(std::size_t offset, std::uint64_t value, unsigned bytes, std::uint64_t writable = 0);

    std::array<std::byte, size_bytes> initial_{};
    std::array<std::byte, size_bytes> writable_{};
    std::array<std::byte, size_bytes> bytes_{};
};

}  // namespace vitrine::vf_sim
