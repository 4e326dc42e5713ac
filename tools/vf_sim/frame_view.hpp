#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mem/test_frame.hpp"

namespace vitrine::vf_sim {

/// A frame of at least 14 bytes, and what the receive parser of the NIC sees in it.
/// MODEL: IPv6 extension headers and what follows them are not looked into.
struct FrameView {
    enum class Network { none, ipv4, ipv6 };
    enum class Transport { none, tcp, udp, sctp };

    std::span<const std::byte> bytes;
    bool tagged = false;
    std::uint16_t tag = 0;  ///< of the outer 802.1Q header: priority and VLAN
    Network network = Network::none;
    bool options = false;             ///< IPv4 options, IPv6 extension headers
    bool first_udp_fragment = false;  ///< of IPv4, with all of the UDP header
    std::size_t network_at = 0;
    std::size_t network_bytes = 0;          ///< of the header
    Transport transport = Transport::none;  ///< none in fragments
    std::size_t transport_at = 0;
    std::size_t transport_bytes = 0;  ///< to the end that the IP header tells; 0 when the frame is shorter than that

    explicit FrameView(std::span<const std::byte> frame) noexcept;
    mem::EthernetAddress destination() const noexcept { return address_at(0); }
    mem::EthernetAddress source() const noexcept { return address_at(6); }
    std::uint16_t vlan_id() const noexcept { return tag & 0xfff; }

private:
    mem::EthernetAddress address_at(std::size_t offset) const noexcept;
    std::uint16_t word_at(std::size_t offset) const noexcept;
    void parse_ipv4() noexcept;
    void parse_ipv6() noexcept;
    void set_transport(unsigned protocol, std::size_t told_bytes) noexcept;
};

}  // namespace vitrine::vf_sim
