#include "driver/pci_sysfs.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iomanip>

#include "driver/failure.hpp"

namespace vitrine::driver {
namespace {

namespace fs = std::filesystem;

/// The name at which a symbolic link points, without its directories; empty when there is no such link.
std::string target_name(const std::string& link) {
    std::error_code error;
    return fs::read_symlink(link, error).filename().string();
}

std::vector<std::string> entries(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
        names.push_back(entry->path().filename().string());
    std::ranges::sort(names);
    return names;
}

/// A sysfs attribute that is one number, decimal or with 0x.
std::optional<unsigned long> number_in(const std::string& path) {
    std::ifstream file(path);
    unsigned long value = 0;
    if (file >> std::setbase(0) >> value) return value;
    return std::nullopt;
}

}  // namespace

std::string PciSysfs::address_of(const PfAndIndex& place) const {
    const std::string pf = root_ + "/class/net/" + place.pf + "/device";
    if (!fs::exists(pf))
        fail(ENODEV, "there is no network interface " + place.pf +
                         " with a card here (ip link; in a network namespace of "
                         "its own a process does not see it: give the VF's PCI address)");
    if (std::string address = target_name(pf + "/virtfn" + std::to_string(place.index)); !address.empty())
        return address;
    const unsigned long there = number_in(pf + "/sriov_numvfs").value_or(0);
    fail(ENODEV, place.pf + " has " + std::to_string(there) + " VFs, so none with the number " +
                     std::to_string(place.index) + " (tools/setup.sh apply --pf " + place.pf + " --vf " +
                     std::to_string(place.index) + " --vm NAME, or echo N >/sys/class/net/" + place.pf +
                     "/device/sriov_numvfs)");
}

unsigned PciSysfs::vfio_group_of(const std::string& address) const {
    if (!fs::exists(device(address))) fail(ENODEV, "there is no PCI function " + address + " (lspci -D)");
    const std::string group = target_name(device(address) + "/iommu_group");
    if (group.empty())
        fail(ENODEV, address +
                         " is in no IOMMU group, so the IOMMU is off (enable VT-d or AMD-Vi in the firmware, boot an "
                         "Intel machine with intel_iommu=on; dmesg | grep -e DMAR -e AMD-Vi)");
    if (const std::string driver = driver_of(address); driver != "vfio-pci")
        fail(ENODEV, address + " is not bound to vfio-pci but to " + (driver.empty() ? "no driver" : driver) + " (" +
                         how_to_bind(address) + ")");
    unsigned number = 0;
    const char* const end = group.data() + group.size();
    if (std::from_chars(group.data(), end, number).ptr != end) fail(ENODEV, address + ": IOMMU group " + group);
    return number;
}

std::string PciSysfs::device_file_of(const std::string& address) const {
    const auto names = entries(device(address) + "/vfio-dev");
    return names.empty() ? std::string() : "/dev/vfio/devices/" + names.front();
}

std::string PciSysfs::strangers_in(unsigned group) const {
    std::string list;
    for (const std::string& address : entries(root_ + "/kernel/iommu_groups/" + std::to_string(group) + "/devices")) {
        const std::string driver = driver_of(address);
        if (driver.empty() || driver == "vfio-pci" || driver == "pci-stub" || driver == "pcieport") continue;
        if (!list.empty()) list += ", ";
        list.append(address).append(" (").append(driver).append(")");
    }
    return list;
}

std::optional<std::string> PciSysfs::pf_of(const std::string& address) const {
    const auto interfaces = entries(device(address) + "/physfn/net");
    return interfaces.empty() ? std::nullopt : std::optional(interfaces.front());
}

std::string PciSysfs::advice_for_silence(const VfPlace& place) const {
    constexpr unsigned long up = 1;  // IFF_UP
    std::optional<std::string> pf;
    if (const auto* function = std::get_if<PciFunction>(&place)) pf = pf_of(function->address);
    if (const auto* named = std::get_if<PfAndIndex>(&place)) pf = named->pf;
    if (!pf) return " (is its PF up, and its driver loaded? ip link set PF up)";
    const auto flags = number_in(root_ + "/class/net/" + *pf + "/flags");
    if (flags && (*flags & up) == 0) return " (its PF " + *pf + " is down: ip link set " + *pf + " up)";
    return " (has its PF " + *pf + " a driver that answers? dmesg | grep " + *pf + ")";
}

std::string PciSysfs::driver_of(const std::string& address) const {
    return target_name(device(address) + "/driver");
}

/// driver_override and drivers_probe; never new_id, which would catch the siblings as well.
std::string PciSysfs::how_to_bind(const std::string& address) const {
    if (const auto pf = pf_of(address)) {
        for (const std::string& entry : entries(device(address) + "/physfn"))
            if (entry.starts_with("virtfn") && target_name(device(address) + "/physfn/" + entry) == address)
                return "tools/setup.sh apply --pf " + *pf + " --vf " + entry.substr(6) + " --vm NAME";
    }
    const std::string place = "/sys/bus/pci/devices/" + address;
    return "echo vfio-pci >" + place + "/driver_override; " +
           (driver_of(address).empty() ? "" : "echo " + address + " >" + place + "/driver/unbind; ") + "echo " +
           address + " >/sys/bus/pci/drivers_probe";
}

}  // namespace vitrine::driver
