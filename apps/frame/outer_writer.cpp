#include "apps/frame/outer_writer.hpp"

#include <algorithm>

namespace vitrine::apps {
namespace {

constexpr std::uint8_t hop_limit = 64;
constexpr std::size_t ip_at = ethernet_header_bytes;
/// RFC 7348, 5 and RFC 8926, 3.3: from the dynamic ports of RFC 6335.
constexpr std::uint16_t first_source_port = 49152, source_port_mask = 0x3fff;

/// A finalizer of MurmurHash3: each bit of the input changes half of the output's.
constexpr std::uint64_t mixed(std::uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51'afd7'ed55'8ccd;
    value ^= value >> 33;
    value *= 0xc4ce'b9fe'1a85'ec53;
    return value ^ value >> 33;
}

class FlowHash {
public:
    void add(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            std::uint64_t word = 0;
            const std::size_t count = std::min(bytes.size(), sizeof(word));
            std::memcpy(&word, bytes.data(), count);
            state_ = mixed(state_ ^ word);
            bytes = bytes.subspan(count);
        }
    }
    std::uint32_t value() const { return static_cast<std::uint32_t>(state_); }

private:
    std::uint64_t state_ = 0x9e37'79b9'7f4a'7c15;
};

bool has_ports(std::uint8_t protocol) {
    return protocol == protocol_tcp || protocol == protocol_udp;
}

}  // namespace

OuterWriter::OuterWriter(const TunnelEnds& ends, const MacAddress& own) noexcept
    : bytes_(ends.outer_bytes()), v6_(ends.local.v6) {
    std::byte* const frame = headers_.data();
    store_mac(frame + 6, own);
    store16(frame + 12, v6_ ? type_ipv6 : type_ipv4);
    std::byte* const packet = frame + ip_at;
    if (v6_) {
        packet[0] = std::byte{0x60};
        packet[6] = std::byte{protocol_udp};
        packet[7] = std::byte{hop_limit};
        ends.local.store(packet + 8);
        ends.remote.store(packet + 24);
    } else {
        constexpr std::uint16_t do_not_fragment = 0x4000;
        packet[0] = std::byte{0x45};
        store16(packet + 6, do_not_fragment);
        packet[8] = std::byte{hop_limit};
        packet[9] = std::byte{protocol_udp};
        ends.local.store(packet + 12);
        ends.remote.store(packet + 16);
        ipv4_sum_ = add_to_sum(0, {packet, ipv4_header_bytes});
    }
    std::byte* const udp = frame + bytes_ - TunnelEnds::tunnel_header_bytes - udp_header_bytes;
    store16(udp + 2, ends.port);
    std::byte* const tunnel = udp + udp_header_bytes;
    if (ends.encapsulation == Encapsulation::vxlan)
        tunnel[0] = std::byte{vxlan_vni_valid};
    else
        store16(tunnel + 2, geneve_ethernet);
    store32(tunnel + 4, ends.vni << 8);
}

void OuterWriter::write(std::byte* to, const MacAddress& next_hop, std::size_t inner_bytes,
                        std::uint32_t flow) const noexcept {
    std::memcpy(to, headers_.data(), bytes_);
    store_mac(to, next_hop);
    const auto datagram_bytes =
        static_cast<std::uint16_t>(udp_header_bytes + TunnelEnds::tunnel_header_bytes + inner_bytes);
    std::byte* const packet = to + ip_at;
    if (v6_) {
        constexpr std::uint32_t version = 6u << 28, flow_label_mask = 0xf'ffff;
        store32(packet, version | (flow & flow_label_mask));
        store16(packet + 4, datagram_bytes);
    } else {
        const auto packet_bytes = static_cast<std::uint16_t>(ipv4_header_bytes + datagram_bytes);
        store16(packet + 2, packet_bytes);
        store16(packet + 10, static_cast<std::uint16_t>(~folded(ipv4_sum_ + packet_bytes)));
    }
    std::byte* const udp = to + bytes_ - TunnelEnds::tunnel_header_bytes - udp_header_bytes;
    store16(udp, static_cast<std::uint16_t>(first_source_port + (flow & source_port_mask)));
    store16(udp + 4, datagram_bytes);
}

std::uint32_t flow_hash(std::span<const std::byte> headers) noexcept {
    constexpr std::size_t addresses_bytes = 12;
    FlowHash hash;
    hash.add(headers.first(std::min(headers.size(), addresses_bytes)));
    if (headers.size() < ethernet_header_bytes) return hash.value();
    std::uint16_t type = load16(&headers[12]);
    auto rest = headers.subspan(ethernet_header_bytes);
    if (type == type_vlan && rest.size() >= vlan_tag_bytes) {
        type = load16(&rest[2]);
        rest = rest.subspan(vlan_tag_bytes);
    }
    const auto add_ports = [&](std::size_t at) {
        if (at + 4 <= rest.size()) hash.add(rest.subspan(at, 4));
    };
    if (type == type_ipv4 && rest.size() >= ipv4_header_bytes) {
        constexpr std::uint16_t more_fragments_or_offset = 0x3fff;
        hash.add(rest.subspan(12, 8));
        hash.add(rest.subspan(9, 1));
        if (has_ports(load8(&rest[9])) && (load16(&rest[6]) & more_fragments_or_offset) == 0)
            add_ports((load8(rest.data()) & 0x0f) * 4u);
    } else if (type == type_ipv6 && rest.size() >= ipv6_header_bytes) {
        hash.add(rest.subspan(8, 32));
        hash.add(rest.subspan(6, 1));
        if (has_ports(load8(&rest[6]))) add_ports(ipv6_header_bytes);
    }
    return hash.value();
}

}  // namespace vitrine::apps
