#pragma once

#include <cstddef>
#include <cstdint>

/// vhost-user on the wire: what a front-end sends and what we answer. Layouts only, no logic.
/// Source: QEMU docs/interop/vhost-user.rst. Host byte order; descriptors travel as SCM_RIGHTS on the first byte.
namespace vitrine::virtio::vhost_user {

enum class Request : std::uint32_t {
    get_features = 1,
    set_features = 2,
    set_owner = 3,
    reset_owner = 4,
    set_mem_table = 5,
    set_log_base = 6,
    set_log_fd = 7,
    set_vring_num = 8,
    set_vring_addr = 9,
    set_vring_base = 10,
    get_vring_base = 11,
    set_vring_kick = 12,
    set_vring_call = 13,
    set_vring_err = 14,
    get_protocol_features = 15,
    set_protocol_features = 16,
    get_queue_num = 17,
    set_vring_enable = 18,
    send_rarp = 19,
    net_set_mtu = 20,
    set_backend_req_fd = 21,
    iotlb_msg = 22,
    set_vring_endian = 23,
    get_config = 24,
    set_config = 25,
    get_inflight_fd = 31,
    set_inflight_fd = 32,
    reset_device = 34,
    get_max_mem_slots = 36,
    add_mem_reg = 37,
    rem_mem_reg = 38,
    set_status = 39,
    get_status = 40,
};

struct Header {
    std::uint32_t request;
    std::uint32_t flags;
    std::uint32_t size;  ///< bytes of the payload that follows
};
static_assert(sizeof(Header) == 12);

inline constexpr std::uint32_t version_mask = 0x3;
inline constexpr std::uint32_t version = 0x1;
inline constexpr std::uint32_t flag_reply = 1u << 2;
inline constexpr std::uint32_t flag_need_reply = 1u << 3;
/// QEMU closes the connection when a reply carries anything else.
inline constexpr std::uint32_t reply_flags = version | flag_reply;

/// Ring index and a number: SET_VRING_NUM (entries), SET/GET_VRING_BASE (index), SET_VRING_ENABLE (0 or 1).
struct VringState {
    std::uint32_t index;
    std::uint32_t number;
};
static_assert(sizeof(VringState) == 8);

/// Where a ring lies, in the front-end's own addresses.
struct VringAddress {
    std::uint32_t index;
    std::uint32_t flags;
    std::uint64_t descriptors;
    std::uint64_t used;
    std::uint64_t available;
    std::uint64_t log;
};
static_assert(sizeof(VringAddress) == 40 && offsetof(VringAddress, used) == 16);

/// SET_VRING_KICK, _CALL, _ERR: a u64 whose low byte is the ring.
inline constexpr std::uint64_t vring_file_index_mask = 0xff;
inline constexpr std::uint64_t vring_file_none = 1u << 8;  ///< no descriptor comes with the message

struct MemoryRegion {
    std::uint64_t guest_address;
    std::uint64_t size_bytes;
    std::uint64_t user_address;
    std::uint64_t mmap_offset;  ///< where the region starts in the file that comes with the message
};
static_assert(sizeof(MemoryRegion) == 32);

/// SET_MEM_TABLE; `regions` times MemoryRegion follow, and as many descriptors come along.
struct MemoryTable {
    std::uint32_t regions;
    std::uint32_t padding;
};
static_assert(sizeof(MemoryTable) == 8);
/// The rust-vmm crate sends at most 32 regions in a table, QEMU 8.
inline constexpr std::size_t most_table_regions = 32;

/// ADD_MEM_REG, REM_MEM_REG.
struct SingleRegion {
    std::uint64_t padding;
    MemoryRegion region;
};
static_assert(sizeof(SingleRegion) == 40);

/// GET_CONFIG, SET_CONFIG; `size_bytes` bytes follow, in the request as in the reply.
struct ConfigAccess {
    std::uint32_t offset;
    std::uint32_t size_bytes;
    std::uint32_t flags;
};
static_assert(sizeof(ConfigAccess) == 12);
inline constexpr std::size_t most_config_bytes = 256;

/// No request that we know is longer.
inline constexpr std::size_t most_payload_bytes = 4096;
static_assert(sizeof(MemoryTable) + most_table_regions * sizeof(MemoryRegion) <= most_payload_bytes);

/// Bits of GET/SET_PROTOCOL_FEATURES.
namespace protocol {
inline constexpr std::uint64_t mq = 1u << 0;
inline constexpr std::uint64_t log_shmfd = 1u << 1;
inline constexpr std::uint64_t rarp = 1u << 2;
inline constexpr std::uint64_t reply_ack = 1u << 3;
inline constexpr std::uint64_t net_mtu = 1u << 4;
inline constexpr std::uint64_t backend_req = 1u << 5;
inline constexpr std::uint64_t config = 1u << 9;
inline constexpr std::uint64_t inflight_shmfd = 1u << 12;
inline constexpr std::uint64_t reset_device = 1u << 13;
inline constexpr std::uint64_t configure_mem_slots = 1u << 15;
inline constexpr std::uint64_t status = 1u << 16;
}  // namespace protocol

/// Bits of SET/GET_STATUS (VIRTIO 1.3, 2.1).
namespace device_status {
inline constexpr std::uint64_t acknowledge = 1;
inline constexpr std::uint64_t driver = 2;
inline constexpr std::uint64_t driver_ok = 4;
inline constexpr std::uint64_t features_ok = 8;
inline constexpr std::uint64_t needs_reset = 64;
inline constexpr std::uint64_t failed = 128;
}  // namespace device_status

}  // namespace vitrine::virtio::vhost_user
