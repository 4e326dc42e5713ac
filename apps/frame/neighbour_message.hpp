#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "apps/frame/wire_bytes.hpp"

namespace vitrine::apps {

/// Who asks and who is asked for: our two addresses, and the IP address of the host that we send to.
struct NeighbourPlace {
    MacAddress own{};
    IpAddress local;
    IpAddress sought;
};

/// A frame of ours, ready to send.
struct NeighbourFrame {
    std::array<std::byte, 86> bytes{};  ///< the longest: a neighbour solicitation or advertisement with one option
    std::size_t length_bytes = 0;
    std::span<const std::byte> view() const { return std::span(bytes).first(length_bytes); }
};

/// What a frame from the wire says.
struct NeighbourNews {
    bool concerns_us = false;  ///< it asked us, or told us of `sought`
    std::optional<NeighbourFrame> answer;
    /// Where `sought` is.
    std::optional<MacAddress> address;
    /// RFC 4861, 7.2.5: without the override flag another address does not displace one that works.
    bool overrides = false;
};

/// Longest ARP or neighbour discovery frame that is looked at: tagged, with room for options that we do not know.
inline constexpr std::size_t most_neighbour_bytes = 256;

/// Reads an ARP packet (RFC 826) where `place.local` is an IPv4 address, else a neighbour solicitation or advertisement
/// (RFC 4861, 4.3, 4.4 and 7.1). The frame is anybody's: whatever it holds, nothing outside it is read.
NeighbourNews read_neighbour(std::span<const std::byte> frame, const NeighbourPlace& place) noexcept;

/// Asks where `place.sought` is: all, or with `known` the one that had it when it was last heard of.
NeighbourFrame neighbour_question(const NeighbourPlace& place, const std::optional<MacAddress>& known) noexcept;

/// RFC 4291, 2.7.1 and RFC 2464, 7: the Ethernet group of those that may have this IPv6 address.
constexpr MacAddress solicited_node_group(const IpAddress& address) {
    return {0x33, 0x33, 0xff, address.octets[13], address.octets[14], address.octets[15]};
}

}  // namespace vitrine::apps
