#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "driver/device.hpp"
#include "driver/pci_sysfs.hpp"
#include "driver/vfio_container.hpp"
#include "driver/vfio_iommufd.hpp"
#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::driver {

/// The address space in which a function sees what we map: an iommufd where the kernel has them and we may use the
/// function's file, else the container of its group.
class VfioSpace {
public:
    /// Throws std::system_error with the cause and the command that removes it.
    VfioSpace(const PciSysfs& sysfs, const std::string& address, std::chrono::milliseconds patience)
        : way_(open(sysfs, address, patience)) {}

    /// The function's descriptor, once. It must be closed before this object goes.
    mem::FileDescriptor take_device(const std::string& address) {
        if (auto* iommufd = std::get_if<VfioIommufd>(&way_)) return iommufd->take_device();
        return std::get<VfioContainer>(way_).open_device(address);
    }
    bool is_iommufd() const { return std::holds_alternative<VfioIommufd>(way_); }

    const std::vector<IovaRange>& ranges() const {
        return std::visit([](const auto& way) -> const auto& { return way.ranges(); }, way_);
    }
    void map_dma(mem::Iova iova, std::span<std::byte> host, DmaAccess access) {
        std::visit([&](auto& way) { way.map_dma(iova, host, access); }, way_);
    }
    void unmap_dma(mem::Iova iova, std::size_t bytes) {
        std::visit([&](auto& way) { way.unmap_dma(iova, bytes); }, way_);
    }

private:
    using Way = std::variant<VfioContainer, VfioIommufd>;

    static Way open(const PciSysfs& sysfs, const std::string& address, std::chrono::milliseconds patience) {
        const unsigned group = sysfs.vfio_group_of(address);
        const std::string file = sysfs.device_file_of(address);
        if (!file.empty() && VfioIommufd::is_usable(file)) return VfioIommufd(file, patience);
        return VfioContainer(sysfs, group, patience);
    }

    Way way_;
};

}  // namespace vitrine::driver
