#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

/// What frames are made of: octets in network order, addresses, the internet checksum.
namespace vitrine::apps {

using MacAddress = std::array<std::uint8_t, 6>;

inline constexpr std::size_t ethernet_header_bytes = 14, vlan_tag_bytes = 4, udp_header_bytes = 8;
inline constexpr std::size_t ipv4_header_bytes = 20, ipv6_header_bytes = 40;  ///< without options
inline constexpr std::uint16_t type_vlan = 0x8100, type_ipv4 = 0x0800, type_ipv6 = 0x86dd, type_arp = 0x0806;
inline constexpr std::uint8_t protocol_tcp = 6, protocol_udp = 17, protocol_icmpv6 = 58;

constexpr std::uint8_t load8(const std::byte* from) {
    return std::to_integer<std::uint8_t>(*from);
}
constexpr std::uint16_t load16(const std::byte* from) {
    return static_cast<std::uint16_t>(load8(from) << 8 | load8(from + 1));
}
constexpr std::uint32_t load32(const std::byte* from) {
    return std::uint32_t{load16(from)} << 16 | load16(from + 2);
}
constexpr void store16(std::byte* to, std::uint16_t value) {
    to[0] = static_cast<std::byte>(value >> 8);
    to[1] = static_cast<std::byte>(value);
}
constexpr void store32(std::byte* to, std::uint32_t value) {
    store16(to, static_cast<std::uint16_t>(value >> 16));
    store16(to + 2, static_cast<std::uint16_t>(value));
}

inline MacAddress load_mac(const std::byte* from) {
    MacAddress address;
    std::memcpy(address.data(), from, address.size());
    return address;
}
inline void store_mac(std::byte* to, const MacAddress& address) {
    std::memcpy(to, address.data(), address.size());
}
/// Neither a group nor nothing.
constexpr bool is_station(const MacAddress& address) {
    return (address[0] & 1) == 0 && address != MacAddress{};
}

/// An IPv4 or IPv6 address, as it is on the wire.
struct IpAddress {
    std::array<std::uint8_t, 16> octets{};
    bool v6 = false;

    constexpr std::size_t size() const { return v6 ? 16 : 4; }
    bool equals(const std::byte* wire) const { return std::memcmp(octets.data(), wire, size()) == 0; }
    void store(std::byte* to) const { std::memcpy(to, octets.data(), size()); }
    friend constexpr bool operator==(const IpAddress&, const IpAddress&) = default;
};

/// Adds `bytes` to a ones' complement sum that is not folded yet (RFC 1071). Only the last piece of a message may have
/// an odd length.
constexpr std::uint64_t add_to_sum(std::uint64_t sum, std::span<const std::byte> bytes) {
    std::size_t at = 0;
    for (; at + 2 <= bytes.size(); at += 2) sum += load16(&bytes[at]);
    if (at < bytes.size()) sum += std::uint64_t{load8(&bytes[at])} << 8;
    return sum;
}
/// 0xffff: a message whose checksum is right.
constexpr std::uint16_t folded(std::uint64_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}
/// Of the pseudo header of IPv6, or of IPv4 (RFC 8200, 8.1; RFC 768): two addresses that lie behind one another.
constexpr std::uint64_t pseudo_header_sum(std::span<const std::byte> addresses, std::uint8_t protocol,
                                          std::size_t length_bytes) {
    return add_to_sum(protocol + length_bytes, addresses);
}

}  // namespace vitrine::apps
