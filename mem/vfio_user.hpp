#pragma once

#include <cstdint>

/// vfio-user on the wire: what the client (driver) and the server (vf_sim) both need. Layouts only, no logic.
/// Source: QEMU docs/interop/vfio-user.rst. Host byte order; descriptors travel as SCM_RIGHTS on the first byte.
namespace vitrine::mem::vfio_user {

enum class Command : std::uint16_t {
    version = 1,
    dma_map = 2,
    dma_unmap = 3,
    device_get_info = 4,
    device_get_region_info = 5,
    device_get_region_io_fds = 6,
    device_get_irq_info = 7,
    device_set_irqs = 8,
    region_read = 9,
    region_write = 10,
    dma_read = 11,
    dma_write = 12,
    device_reset = 13,
    region_write_multi = 15,
};

struct Header {
    std::uint16_t message_id;
    Command command;
    std::uint32_t size;  ///< bytes, header included
    std::uint32_t flags;
    std::uint32_t error;  ///< errno, in a reply with flag_error
};
static_assert(sizeof(Header) == 16);

inline constexpr std::uint32_t flag_type_mask = 0xf;
inline constexpr std::uint32_t flag_reply = 1;  ///< in the type field; 0 is a command
inline constexpr std::uint32_t flag_no_reply = 1u << 4;
inline constexpr std::uint32_t flag_error = 1u << 5;

/// Followed by NUL-ended JSON: {"capabilities":{...}}.
struct Version {
    std::uint16_t major;
    std::uint16_t minor;
};

struct DmaMap {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint64_t offset;  ///< in the file that comes with the message
    std::uint64_t address;
    std::uint64_t size;
};
static_assert(sizeof(DmaMap) == 32);
inline constexpr std::uint32_t dma_readable = 1u << 0;  ///< by the device
inline constexpr std::uint32_t dma_writable = 1u << 1;

struct DmaUnmap {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint64_t address;
    std::uint64_t size;
};
static_assert(sizeof(DmaUnmap) == 24);
inline constexpr std::uint32_t unmap_all = 1u << 1;

struct DeviceInfo {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint32_t regions;
    std::uint32_t irqs;
};
static_assert(sizeof(DeviceInfo) == 16);
inline constexpr std::uint32_t device_resettable = 1u << 0;
inline constexpr std::uint32_t device_is_pci = 1u << 1;

struct RegionInfo {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint32_t index;
    std::uint32_t cap_offset;
    std::uint64_t size;
    std::uint64_t offset;  ///< in the file that comes with the reply
};
static_assert(sizeof(RegionInfo) == 32);
inline constexpr std::uint32_t region_readable = 1u << 0;
inline constexpr std::uint32_t region_writable = 1u << 1;
inline constexpr std::uint32_t region_mappable = 1u << 2;
inline constexpr std::uint32_t region_has_caps = 1u << 3;

/// The sparse-mmap capability (id 1) and, behind it, `areas` of these.
struct SparseMmapCap {
    std::uint16_t id;
    std::uint16_t version;
    std::uint32_t next;
    std::uint32_t areas;
    std::uint32_t reserved;
};
static_assert(sizeof(SparseMmapCap) == 16);
inline constexpr std::uint16_t sparse_mmap_cap_id = 1;
struct SparseArea {
    std::uint64_t offset;
    std::uint64_t size;
};

struct IrqInfo {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint32_t index;
    std::uint32_t count;
};
static_assert(sizeof(IrqInfo) == 16);
inline constexpr std::uint32_t irq_eventfd = 1u << 0;
inline constexpr std::uint32_t irq_noresize = 1u << 3;

struct IrqSet {
    std::uint32_t argsz;
    std::uint32_t flags;
    std::uint32_t index;
    std::uint32_t start;
    std::uint32_t count;
};
static_assert(sizeof(IrqSet) == 20);
inline constexpr std::uint32_t irq_data_none = 1u << 0;
inline constexpr std::uint32_t irq_data_bool = 1u << 1;
inline constexpr std::uint32_t irq_data_eventfd = 1u << 2;
inline constexpr std::uint32_t irq_action_mask = 1u << 3;
inline constexpr std::uint32_t irq_action_unmask = 1u << 4;
inline constexpr std::uint32_t irq_action_trigger = 1u << 5;

/// Request and reply of region_read, request of region_write; data follows. The reply to a write has no data.
struct RegionAccess {
    std::uint64_t offset;
    std::uint32_t region;
    std::uint32_t count;
};
static_assert(sizeof(RegionAccess) == 16);

inline constexpr std::uint32_t bar0_region = 0;
inline constexpr std::uint32_t bar3_region = 3;
inline constexpr std::uint32_t config_region = 7;
inline constexpr std::uint32_t pci_regions = 9;
inline constexpr std::uint32_t msix_irq = 2;
inline constexpr std::uint32_t error_irq = 3;
inline constexpr std::uint32_t request_irq = 4;
inline constexpr std::uint32_t pci_irqs = 5;

}  // namespace vitrine::mem::vfio_user
