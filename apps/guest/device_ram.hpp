#pragma once

#include <cstddef>
#include <string>

#include "apps/guest/guest_ram.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {

/// Memory inside a Linux guest for one PCI device: huge pages, whose places the kernel tells root.
///
/// They lie in a file with a name, which stays when we are killed: the device knows nothing of our end, and goes on
/// writing there. Who takes the device next resets it first, and only then makes RAM. The file is also what keeps two
/// processes from driving one device.
class DeviceRam {
public:
    /// Throws std::system_error: EBUSY when another process drives the device.
    DeviceRam(const std::string& directory, const std::string& device);
    /// Removes the file if nobody writes there.
    ~DeviceRam();
    DeviceRam(const DeviceRam&) = delete;
    DeviceRam& operator=(const DeviceRam&) = delete;

    /// Zeroed memory. The device must have been reset. Throws std::system_error: not enough huge pages, not root.
    GuestRam make(std::size_t bytes);
    /// The device touches nothing in here until it is told of it again.
    void device_was_reset() noexcept { device_knows_it_ = false; }

private:
    std::string path_;
    mem::FileDescriptor file_;  ///< locked as long as we live
    bool device_knows_it_;
};

}  // namespace vitrine::guest
