#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "apps/frame/tunnel_ends.hpp"

namespace vitrine::apps {

/// What --tunnel says (docs/tunnels.md).
struct TunnelOptions {
    std::optional<TunnelEnds> ends;          ///< of VXLAN or GENEVE
    std::optional<std::uint16_t> vlan;       ///< that all frames on the wire are tagged with; the guest sees no tag
    std::optional<IpAddress> gateway;        ///< asked for instead of the remote end
    std::optional<MacAddress> next_hop_mac;  ///< nobody need be asked

    /// By how much the wire's MTU must exceed the guest's: IP, UDP and tunnel header, and the inner Ethernet header.
    std::size_t overhead_bytes() const { return ends ? ends->outer_bytes() : 0; }
};

/// Reads KIND:KEY=VALUE,...; KIND is vxlan, geneve or vlan. Throws std::invalid_argument with what is wrong.
TunnelOptions parse_tunnel(const std::string& text);

/// As they are written: "10.0.0.1", "fd00::1".
std::string text_of(const IpAddress& address);

}  // namespace vitrine::apps
