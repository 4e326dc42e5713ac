#pragma once

#include <cstdint>

#include "apps/guest/pci_function.hpp"

namespace vitrine::guest {

/// A piece of the guest's physical address space.
struct PhysicalRange {
    std::uint64_t start = 0;
    std::uint64_t bytes = 0;
};

/// The memory behind a virtio-pmem device, as its registers name it (VIRTIO 1.3, 5.19.4). Throws std::system_error:
/// another kind of device, or one without such registers.
PhysicalRange pmem_range(PciFunction& function);

}  // namespace vitrine::guest
