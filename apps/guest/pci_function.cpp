#include "apps/guest/pci_function.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace vitrine::guest {
namespace {

namespace fs = std::filesystem;

}  // namespace

PciFunction::PciFunction(std::string address, const std::string& root)
    : address_(std::move(address)), directory_(root + "/bus/pci/devices/" + address_) {
    if (!fs::exists(directory_))
        throw std::system_error(ENODEV, std::generic_category(),
                                "there is no PCI function " + address_ + " (lspci -D)");
    std::error_code none;
    if (const auto driver = fs::read_symlink(directory_ + "/driver", none).filename().string(); !driver.empty())
        throw std::system_error(EBUSY, std::generic_category(),
                                address_ + ": the kernel's driver " + driver + " has it (echo " + address_ + " >" +
                                    directory_ + "/driver/unbind)");
    config_ = mem::open(directory_ + "/config", O_RDWR);
}

std::array<std::byte, pci_config_bytes> PciFunction::config() const {
    std::array<std::byte, pci_config_bytes> bytes{};
    const ssize_t count = ::pread(config_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0) mem::throw_errno(address_ + ": read of its configuration");
    if (static_cast<std::size_t>(count) != bytes.size())
        throw std::system_error(EPERM, std::generic_category(),
                                address_ + ": only root is shown the whole configuration");
    return bytes;
}

mem::FileDescriptor PciFunction::open_bar(unsigned bar, int flags) const {
    return mem::open(directory_ + "/resource" + std::to_string(bar), flags);
}

std::uint16_t PciFunction::word(unsigned at) const {
    std::uint16_t value = 0;
    if (::pread(config_.get(), &value, sizeof(value), at) != sizeof(value))
        mem::throw_errno(address_ + ": read of its configuration");
    return value;
}

void PciFunction::set_command(std::uint16_t on, std::uint16_t off) {
    constexpr unsigned command = 4;
    const auto value = static_cast<std::uint16_t>((word(command) | on) & ~off);
    if (::pwrite(config_.get(), &value, sizeof(value), command) != sizeof(value))
        mem::throw_errno(address_ + ": write to its command register");
}

std::vector<std::string> PciFunction::find(std::uint16_t vendor, std::uint16_t device, const std::string& root) {
    const auto number_in = [](const fs::path& path) {
        std::ifstream file(path);
        unsigned value = 0;
        file >> std::hex >> value;
        return value;
    };
    std::vector<std::string> found;
    std::error_code none;
    for (fs::directory_iterator entry(root + "/bus/pci/devices", none), end; !none && entry != end;
         entry.increment(none))
        if (number_in(entry->path() / "vendor") == vendor && number_in(entry->path() / "device") == device)
            found.push_back(entry->path().filename().string());
    std::ranges::sort(found);
    return found;
}

}  // namespace vitrine::guest
