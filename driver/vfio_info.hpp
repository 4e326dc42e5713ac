#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// What VFIO's answers with capability chains say. Parsing only: the calls are in vfio_container.cpp and
/// vfio_device.cpp.
namespace vitrine::driver {

/// Addresses that a DMA mapping may have, both ends included: the last one may be ~0.
struct IovaRange {
    std::uint64_t first;
    std::uint64_t last;
    friend bool operator==(const IovaRange&, const IovaRange&) = default;
};

struct IommuInfo {
    std::uint64_t page_sizes = 0;            ///< one bit for each that the IOMMU knows
    std::vector<IovaRange> ranges;           ///< without the reserved ones, such as the interrupt window
    std::optional<std::uint32_t> maps_left;  ///< how many more mappings the container takes, if it says so
};

/// Of VFIO_IOMMU_GET_INFO, with everything behind it. An old kernel that lists no ranges leaves 39 bits without the
/// interrupt window, which every IOMMU of x86 has. Throws std::system_error (EPROTO) when the answer contradicts
/// itself.
IommuInfo parse_iommu_info(std::span<const std::byte> answer);

struct RegionArea {
    std::uint64_t offset;  ///< in the region
    std::uint64_t bytes;
    friend bool operator==(const RegionArea&, const RegionArea&) = default;
};

struct Region {
    std::uint64_t bytes = 0;
    std::uint64_t file_offset = 0;  ///< in the device's file
    bool readable = false;
    bool writable = false;
    std::vector<RegionArea> mappable;  ///< by mmap; nothing else of the region may be
};

/// Of VFIO_DEVICE_GET_REGION_INFO, with everything behind it. Throws std::system_error (EPROTO) as above.
Region parse_region_info(std::span<const std::byte> answer);

}  // namespace vitrine::driver
