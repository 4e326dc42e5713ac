#pragma once

#include <optional>
#include <string>
#include <vector>

#include "driver/vf_place.hpp"

namespace vitrine::driver {

/// What sysfs knows about PCI functions: enough to find a VF's IOMMU group, and to say what stands in the way of using
/// it and which command removes that. Reads only; never keeps a file open.
class PciSysfs {
public:
    /// Another `root` than /sys is for tests.
    explicit PciSysfs(std::string root = "/sys") : root_(std::move(root)) {}

    /// The PCI address of a PF's VF. Throws std::system_error (ENODEV): no such interface, or it has not so many VFs.
    std::string address_of(const PfAndIndex& place) const;

    /// The number of the function's IOMMU group. Throws std::system_error: no such function, no IOMMU, or another
    /// driver than vfio-pci has it.
    unsigned vfio_group_of(const std::string& address) const;

    /// The function's own file, if this kernel makes one (Linux 6.6 and later, CONFIG_VFIO_DEVICE_CDEV); else empty.
    std::string device_file_of(const std::string& address) const;

    /// Why a group is not viable: functions of it that a driver of the host has. Bridges do not count.
    std::string strangers_in(unsigned group) const;

    /// What helps when the PF does not answer, in brackets: it is down, or may be.
    std::string advice_for_silence(const VfPlace& place) const;

    /// The PF's network interface, if the function is a VF and the PF's driver shows one here.
    std::optional<std::string> pf_of(const std::string& address) const;

    /// The driver that has the function; empty when none has.
    std::string driver_of(const std::string& address) const;

private:
    std::string device(const std::string& address) const { return root_ + "/bus/pci/devices/" + address; }
    std::string how_to_bind(const std::string& address) const;

    std::string root_;
};

}  // namespace vitrine::driver
