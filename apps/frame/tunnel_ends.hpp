#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/frame/wire_bytes.hpp"

namespace vitrine::apps {

enum class Encapsulation : std::uint8_t {
    vxlan,   ///< RFC 7348
    geneve,  ///< RFC 8926
};

inline constexpr std::uint16_t vxlan_port = 4789, geneve_port = 6081;
inline constexpr std::uint32_t most_vni = 0xff'ffff;

/// One tunnel between two hosts, over IPv4 or IPv6: both addresses are of one kind.
struct TunnelEnds {
    Encapsulation encapsulation = Encapsulation::vxlan;
    std::uint32_t vni = 0;
    std::uint16_t port = vxlan_port;
    IpAddress local;
    IpAddress remote;

    /// Of VXLAN, and of GENEVE without options: 8 bytes each.
    static constexpr std::size_t tunnel_header_bytes = 8;
    /// What stands in front of each inner frame that we send.
    constexpr std::size_t outer_bytes() const {
        return ethernet_header_bytes + (local.v6 ? ipv6_header_bytes : ipv4_header_bytes) + udp_header_bytes +
               tunnel_header_bytes;
    }
};

/// Of the two tunnel headers: VXLAN's flag that says the VNI is valid; GENEVE's bits of the first two octets.
inline constexpr std::uint8_t vxlan_vni_valid = 0x08;
inline constexpr std::uint8_t geneve_version_mask = 0xc0, geneve_options_mask = 0x3f;
inline constexpr std::uint8_t geneve_control = 0x80, geneve_critical = 0x40;
inline constexpr std::uint16_t geneve_ethernet = 0x6558;

}  // namespace vitrine::apps
