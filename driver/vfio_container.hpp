#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "driver/device.hpp"
#include "driver/pci_sysfs.hpp"
#include "driver/vfio_info.hpp"
#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::driver {

/// A container with one IOMMU group in it: /dev/vfio/vfio and /dev/vfio/NUMBER, type1v2. It owns every DMA mapping;
/// when it is closed, they are gone.
class VfioContainer {
public:
    /// A group that another process still has (as the one that we replace may) is asked for again until `patience` is
    /// over. Throws std::system_error with the cause and the command that removes it.
    VfioContainer(const PciSysfs& sysfs, unsigned group, std::chrono::milliseconds patience);

    /// The descriptor of one of the group's functions.
    mem::FileDescriptor open_device(const std::string& address) const;

    const std::vector<IovaRange>& ranges() const { return info_.ranges; }

    void map_dma(mem::Iova iova, std::span<std::byte> host, DmaAccess access);
    /// What one map_dma() made, whole.
    void unmap_dma(mem::Iova iova, std::size_t bytes);

private:
    IommuInfo read_info() const;

    mem::FileDescriptor container_;
    mem::FileDescriptor group_;
    IommuInfo info_;
};

}  // namespace vitrine::driver
