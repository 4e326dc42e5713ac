#include "tools/vf_sim/frame_view.hpp"

#include <cstring>

namespace vitrine::vf_sim {

FrameView::FrameView(std::span<const std::byte> frame) noexcept : bytes(frame) {
    std::size_t type_at = 12;
    if (word_at(type_at) == 0x8100 && bytes.size() >= 18) {
        tagged = true;
        tag = word_at(14);
        type_at = 16;
    }
    network_at = type_at + 2;
    if (word_at(type_at) == 0x0800) parse_ipv4();
    if (word_at(type_at) == 0x86dd) parse_ipv6();
}

mem::EthernetAddress FrameView::address_at(std::size_t offset) const noexcept {
    mem::EthernetAddress address;
    std::memcpy(address.data(), bytes.data() + offset, address.size());
    return address;
}

std::uint16_t FrameView::word_at(std::size_t offset) const noexcept {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[offset]) << 8 |
                                      std::to_integer<unsigned>(bytes[offset + 1]));
}

void FrameView::parse_ipv4() noexcept {
    constexpr std::size_t least_header = 20;
    if (bytes.size() < network_at + least_header) return;
    const auto first = std::to_integer<unsigned>(bytes[network_at]);
    const std::size_t header_bytes = (first & 0xf) * 4;
    if (first >> 4 != 4 || header_bytes < least_header || bytes.size() < network_at + header_bytes) return;
    network = Network::ipv4;
    network_bytes = header_bytes;
    options = header_bytes > least_header;
    constexpr unsigned more_fragments = 0x2000, fragment_offset = 0x1fff, udp = 17, udp_header_bytes = 8;
    const unsigned fragment = word_at(network_at + 6) & (more_fragments | fragment_offset);
    const auto protocol = std::to_integer<unsigned>(bytes[network_at + 9]);
    const std::size_t told_bytes = word_at(network_at + 2);
    if (fragment == 0) set_transport(protocol, told_bytes > header_bytes ? told_bytes - header_bytes : 0);
    first_udp_fragment =
        fragment == more_fragments && protocol == udp && bytes.size() >= network_at + header_bytes + udp_header_bytes;
}

void FrameView::parse_ipv6() noexcept {
    constexpr std::size_t header_bytes = 40;
    if (bytes.size() < network_at + header_bytes || std::to_integer<unsigned>(bytes[network_at]) >> 4 != 6) return;
    network = Network::ipv6;
    network_bytes = header_bytes;
    const auto next_header = std::to_integer<unsigned>(bytes[network_at + 6]);
    options = next_header == 0 || next_header == 43 || next_header == 44 || next_header == 60;
    set_transport(next_header, word_at(network_at + 4));
}

void FrameView::set_transport(unsigned protocol, std::size_t told_bytes) noexcept {
    transport_at = network_at + network_bytes;
    if (bytes.size() < transport_at + 4) return;  // the ports must be there
    transport = protocol == 6     ? Transport::tcp
                : protocol == 17  ? Transport::udp
                : protocol == 132 ? Transport::sctp
                                  : Transport::none;
    if (told_bytes <= bytes.size() - transport_at) transport_bytes = told_bytes;
}

}  // namespace vitrine::vf_sim
