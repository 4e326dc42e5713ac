#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace vitrine::virtio {

static_assert(std::endian::native == std::endian::little, "rings and headers are little-endian");

/// virtio_net_hdr, in front of every frame in both directions (VIRTIO 1.3, 5.1.6).
struct NetHeader {
    std::uint8_t flags = 0;
    std::uint8_t gso_type = 0;
    std::uint16_t header_bytes = 0;
    std::uint16_t gso_bytes = 0;
    std::uint16_t checksum_start = 0;
    std::uint16_t checksum_offset = 0;
    std::uint16_t buffers = 0;  ///< receive only: how many guest buffers the frame fills

    static constexpr std::uint8_t needs_checksum = 1;
    static constexpr std::uint8_t data_valid = 2;
    static constexpr std::uint8_t gso_none = 0;
};
static_assert(sizeof(NetHeader) == 12 && offsetof(NetHeader, buffers) == 10);

/// Device configuration (VIRTIO 1.3, 5.1.4). A field counts only when its feature bit is offered.
struct __attribute__((packed)) NetConfig {
    std::uint8_t mac[6];
    std::uint16_t status;
    std::uint16_t most_pairs;
    std::uint16_t mtu;
    std::uint32_t speed_mbps;
    std::uint8_t duplex;
    std::uint8_t rss_key_bytes;
    std::uint16_t rss_indirections;
    std::uint32_t hash_types;
    std::uint32_t tunnel_types;

    static constexpr std::uint16_t link_up = 1;
    static constexpr std::uint32_t unknown_speed = 0xffff'ffff;
    static constexpr std::uint8_t full_duplex = 1;
    static constexpr std::uint8_t unknown_duplex = 0xff;
};
static_assert(sizeof(NetConfig) == 28 && offsetof(NetConfig, speed_mbps) == 12);

}  // namespace vitrine::virtio
