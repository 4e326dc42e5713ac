#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/frame/tunnel_ends.hpp"

namespace vitrine::apps {

/// What a frame from the wire is to a tunnel.
enum class Outer : std::uint8_t {
    ours,
    not_tunnel,   ///< anything else than UDP from the remote end to the local one and its port
    wrong_vni,    ///< another tunnel's, or VXLAN without the flag that says the VNI is valid
    fragment,     ///< of an outer packet: tunnel ends do not reassemble (RFC 7348, 4.3)
    malformed,    ///< lengths that contradict each other, a bad IPv4 checksum, too short inside
    unsupported,  ///< GENEVE: version, control packet, critical options, or not an Ethernet frame inside
};

struct OuterFrame {
    Outer verdict = Outer::not_tunnel;
    std::uint16_t inner_offset = 0;  ///< the rest is valid with Outer::ours alone
    std::uint32_t inner_bytes = 0;
    bool has_udp_checksum = false;
    std::uint16_t ip_offset = 0;
    std::uint16_t udp_offset = 0;
};

/// Ethernet, a priority tag, IPv4 with all options, UDP, tunnel header: no more than this is looked at. GENEVE options
/// are skipped unread.
inline constexpr std::size_t most_outer_bytes = ethernet_header_bytes + vlan_tag_bytes + 60 + udp_header_bytes + 8;

/// Reads the headers of a frame of `frame_bytes` bytes; `headers` is a private copy of its first most_outer_bytes, or
/// of all of it if it is shorter. The UDP checksum is the caller's to check: it covers the payload.
OuterFrame read_outer(std::span<const std::byte> headers, std::size_t frame_bytes, const TunnelEnds& ends) noexcept;

/// What the UDP checksum of that frame must be added to: folded with UDP header and payload it gives 0xffff.
std::uint64_t outer_pseudo_header_sum(std::span<const std::byte> headers, const OuterFrame& frame,
                                      const TunnelEnds& ends) noexcept;

}  // namespace vitrine::apps
