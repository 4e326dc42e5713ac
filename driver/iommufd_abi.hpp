#pragma once

#include <cstdint>
#include <linux/ioctl.h>
#include <linux/vfio.h>

/// The part of the kernel's iommufd and VFIO device interface that we use (Documentation/userspace-api/iommufd.rst,
/// Linux 6.6 and later). Written down here because Debian 12's headers are older than it; each structure says its own
/// size, so kernels that know longer ones take these.
namespace vitrine::driver::iommufd {

inline constexpr unsigned long bind_device = _IO(VFIO_TYPE, VFIO_BASE + 18);
inline constexpr unsigned long attach_device = _IO(VFIO_TYPE, VFIO_BASE + 19);
inline constexpr unsigned long allocate_space = _IO(VFIO_TYPE, 0x81);
inline constexpr unsigned long read_ranges = _IO(VFIO_TYPE, 0x84);
inline constexpr unsigned long map_memory = _IO(VFIO_TYPE, 0x85);
inline constexpr unsigned long unmap_memory = _IO(VFIO_TYPE, 0x86);

struct BindDevice {
    std::uint32_t argsz = sizeof(BindDevice);
    std::uint32_t flags = 0;
    std::int32_t iommufd;
    std::uint32_t device_id = 0;  // answer
};
static_assert(sizeof(BindDevice) == 16);

struct AttachDevice {
    std::uint32_t argsz = sizeof(AttachDevice);
    std::uint32_t flags = 0;
    std::uint32_t space;
};
static_assert(sizeof(AttachDevice) == 12);

struct AllocateSpace {
    std::uint32_t size = sizeof(AllocateSpace);
    std::uint32_t flags = 0;
    std::uint32_t space = 0;  // answer
};
static_assert(sizeof(AllocateSpace) == 12);

struct ReadRanges {
    std::uint32_t size = sizeof(ReadRanges);
    std::uint32_t space;
    std::uint32_t count;  // room for so many; the answer says how many there are
    std::uint32_t reserved = 0;
    std::uint64_t ranges;  // address of an array of {first, last}
    std::uint64_t alignment = 0;
};
static_assert(sizeof(ReadRanges) == 32);

struct MapMemory {
    static constexpr std::uint32_t fixed_address = 1u << 0, device_writes = 1u << 1, device_reads = 1u << 2;
    std::uint32_t size = sizeof(MapMemory);
    std::uint32_t flags;
    std::uint32_t space;
    std::uint32_t reserved = 0;
    std::uint64_t host;
    std::uint64_t bytes;
    std::uint64_t iova;
};
static_assert(sizeof(MapMemory) == 40);

struct UnmapMemory {
    std::uint32_t size = sizeof(UnmapMemory);
    std::uint32_t space;
    std::uint64_t iova;
    std::uint64_t bytes;  // the answer says how many were mapped
};
static_assert(sizeof(UnmapMemory) == 24);

}  // namespace vitrine::driver::iommufd
