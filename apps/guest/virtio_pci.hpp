#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

/// What a virtio device shows on PCI (VIRTIO 1.3, 4.1): modern devices, and transitional ones by their modern face.
namespace vitrine::guest {

/// The registers of the device itself (4.1.4.3). A 64-bit field is written in halves.
struct VirtioCommonConfig {
    std::uint32_t device_feature_select;
    std::uint32_t device_feature;
    std::uint32_t driver_feature_select;
    std::uint32_t driver_feature;
    std::uint16_t config_vector;
    std::uint16_t queues;
    std::uint8_t device_status;
    std::uint8_t config_generation;
    std::uint16_t queue_select;
    std::uint16_t queue_size;
    std::uint16_t queue_vector;
    std::uint16_t queue_enable;
    std::uint16_t queue_notify_offset;
    std::uint32_t queue_descriptors[2];
    std::uint32_t queue_driver[2];
    std::uint32_t queue_device[2];

    static constexpr std::uint16_t no_vector = 0xffff;
};
static_assert(sizeof(VirtioCommonConfig) == 56 && offsetof(VirtioCommonConfig, device_status) == 20 &&
              offsetof(VirtioCommonConfig, queue_notify_offset) == 30 &&
              offsetof(VirtioCommonConfig, queue_device) == 48);

/// Device status (2.1).
namespace device_status {
inline constexpr std::uint8_t acknowledge = 1;
inline constexpr std::uint8_t driver = 2;
inline constexpr std::uint8_t driver_ok = 4;
inline constexpr std::uint8_t features_ok = 8;
inline constexpr std::uint8_t needs_reset = 64;
inline constexpr std::uint8_t unplugged = 0xff;  ///< what a read of nothing gives
}  // namespace device_status

inline constexpr std::size_t pci_config_bytes = 256;
inline constexpr unsigned pci_bars = 6;

/// Where a set of registers lies.
struct RegisterWindow {
    std::uint8_t bar = 0;
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0;  ///< 0: the device has no such set
};

struct VirtioPciLayout {
    RegisterWindow common;
    RegisterWindow notify;
    RegisterWindow device;  ///< those of its kind
    std::uint32_t notify_multiplier = 0;
};

/// Kinds of virtio devices by their numbers (clause 5).
enum class VirtioKind : std::uint16_t { net = 1, pmem = 27 };

/// Finds the registers of a virtio device of this kind in its configuration space, or says why there are none.
std::expected<VirtioPciLayout, std::string_view> find_virtio_registers(
    std::span<const std::byte, pci_config_bytes> config, VirtioKind kind);

}  // namespace vitrine::guest
