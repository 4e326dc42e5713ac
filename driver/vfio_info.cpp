#include "driver/vfio_info.hpp"

#include <cerrno>
#include <cstring>
#include <linux/vfio.h>

#include "driver/failure.hpp"

namespace vitrine::driver {
namespace {

constexpr IovaRange below_interrupt_window{0, 0xfedf'ffff};
constexpr IovaRange above_interrupt_window{0xfef0'0000, (std::uint64_t{1} << 39) - 1};

template <class T>
T value_at(std::span<const std::byte> answer, std::size_t offset) {
    if (offset > answer.size() || answer.size() - offset < sizeof(T))
        fail(EPROTO, "VFIO: an answer ends in the middle of what it announces");
    T value;
    std::memcpy(&value, answer.data() + offset, sizeof(T));
    return value;
}

/// Calls `visit(header, offset)` for each capability of the chain that begins at `offset`; 0 is its end.
template <class Visit>
void walk(std::span<const std::byte> answer, std::uint32_t offset, Visit&& visit) {
    for (int steps = 0; offset != 0; ++steps) {
        if (steps == 64) fail(EPROTO, "VFIO: a chain of capabilities without an end");
        const auto header = value_at<vfio_info_cap_header>(answer, offset);
        visit(header, offset);
        offset = header.next;
    }
}

}  // namespace

IommuInfo parse_iommu_info(std::span<const std::byte> answer) {
    const auto info = value_at<vfio_iommu_type1_info>(answer, 0);
    IommuInfo result;
    if ((info.flags & VFIO_IOMMU_INFO_PGSIZES) != 0) result.page_sizes = info.iova_pgsizes;
    const std::uint32_t chain = (info.flags & VFIO_IOMMU_INFO_CAPS) != 0 ? info.cap_offset : 0;
    walk(answer, chain, [&](const vfio_info_cap_header& header, std::size_t offset) {
        if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
            const auto list = value_at<vfio_iommu_type1_info_cap_iova_range>(answer, offset);
            for (std::size_t i = 0; i < list.nr_iovas; ++i) {
                const auto range =
                    value_at<vfio_iova_range>(answer, offset + sizeof(list) + i * sizeof(vfio_iova_range));
                if (range.start > range.end) fail(EPROTO, "VFIO: a range of addresses that ends before it begins");
                result.ranges.push_back({range.start, range.end});
            }
        } else if (header.id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
            result.maps_left = value_at<vfio_iommu_type1_info_dma_avail>(answer, offset).avail;
        }
    });
    if (result.ranges.empty()) result.ranges = {below_interrupt_window, above_interrupt_window};
    return result;
}

Region parse_region_info(std::span<const std::byte> answer) {
    const auto info = value_at<vfio_region_info>(answer, 0);
    Region region{.bytes = info.size,
                  .file_offset = info.offset,
                  .readable = (info.flags & VFIO_REGION_INFO_FLAG_READ) != 0,
                  .writable = (info.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0,
                  .mappable = {}};
    if ((info.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) return region;
    bool sparse = false;
    const std::uint32_t chain = (info.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0 ? info.cap_offset : 0;
    walk(answer, chain, [&](const vfio_info_cap_header& header, std::size_t offset) {
        if (header.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP) return;
        sparse = true;
        const auto list = value_at<vfio_region_info_cap_sparse_mmap>(answer, offset);
        for (std::size_t i = 0; i < list.nr_areas; ++i) {
            const auto area = value_at<vfio_region_sparse_mmap_area>(
                answer, offset + sizeof(list) + i * sizeof(vfio_region_sparse_mmap_area));
            if (area.offset > info.size || area.size > info.size - area.offset)
                fail(EPROTO, "VFIO: a mappable area that is not in its region");
            region.mappable.push_back({area.offset, area.size});
        }
    });
    if (!sparse) region.mappable.push_back({0, info.size});
    return region;
}

}  // namespace vitrine::driver
