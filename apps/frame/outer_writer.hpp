#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/frame/tunnel_ends.hpp"

namespace vitrine::apps {

/// Outer headers, all but the same for every frame of a tunnel: written once, completed for each frame.
///
/// DF is set and the TTL is 64. The UDP checksum is zero: RFC 7348, 5 and RFC 8926, 3.3 want it so or allow it over
/// IPv4; over IPv6 RFC 6935 and 6936 allow it where the receiver was told to take it.
class OuterWriter {
public:
    static constexpr std::size_t most_bytes =
        ethernet_header_bytes + ipv6_header_bytes + udp_header_bytes + TunnelEnds::tunnel_header_bytes;

    OuterWriter(const TunnelEnds& ends, const MacAddress& own) noexcept;

    std::size_t bytes() const { return bytes_; }
    /// Writes bytes() bytes for an inner frame of that length. `flow` spreads: its low bits choose the UDP source port
    /// and IPv6's flow label (RFC 7348, 5; RFC 6438).
    void write(std::byte* to, const MacAddress& next_hop, std::size_t inner_bytes, std::uint32_t flow) const noexcept;

private:
    std::array<std::byte, most_bytes> headers_{};
    std::size_t bytes_;
    bool v6_;
    std::uint64_t ipv4_sum_ = 0;  ///< of the IPv4 header with a length of 0
};

/// The same for all frames of one conversation inside the tunnel: of the addresses and, in TCP and UDP that is not
/// fragmented, the ports. `headers` are the first bytes of the inner frame, as many as there are, up to
/// flow_header_bytes.
inline constexpr std::size_t flow_header_bytes =
    ethernet_header_bytes + vlan_tag_bytes + ipv6_header_bytes + 4;  // 62: IPv4 with up to 20 bytes of options, too
std::uint32_t flow_hash(std::span<const std::byte> headers) noexcept;

}  // namespace vitrine::apps
