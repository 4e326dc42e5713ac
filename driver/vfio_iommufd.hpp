#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "driver/device.hpp"
#include "driver/vfio_info.hpp"
#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::driver {

/// The other way to a function's DMA mappings: /dev/iommu and the function's own file under /dev/vfio/devices, of Linux
/// 6.6 and later with CONFIG_IOMMUFD. Nothing is shared with other functions of an IOMMU group, and no group is opened.
/// When it is closed, its mappings are gone.
class VfioIommufd {
public:
    /// Whether this process may use it: both files are there and may be opened.
    static bool is_usable(const std::string& device_file);

    /// Binds the function. One that another process still has is asked for again until `patience` is over. Throws
    /// std::system_error with the cause.
    VfioIommufd(const std::string& device_file, std::chrono::milliseconds patience);

    /// The function's descriptor, once. It must be closed before this object goes.
    mem::FileDescriptor take_device() { return std::move(device_); }

    const std::vector<IovaRange>& ranges() const { return ranges_; }

    /// All of it or nothing, as VfioContainer does it.
    void map_dma(mem::Iova iova, std::span<std::byte> host, DmaAccess access);
    void unmap_dma(mem::Iova iova, std::size_t bytes);

private:
    std::vector<IovaRange> read_ranges() const;

    mem::FileDescriptor iommufd_;
    mem::FileDescriptor device_;
    std::uint32_t space_ = 0;
    std::vector<IovaRange> ranges_;
};

}  // namespace vitrine::driver
