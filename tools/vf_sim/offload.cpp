#include "tools/vf_sim/offload.hpp"

#include <cstring>

#include "tools/vf_sim/checksums.hpp"

namespace vitrine::vf_sim {

using namespace driver;

Offload::Offload(TxDescriptor context, TxData first) noexcept {
    const TxContextHeaders headers{{context.low}};
    const TxContext rest{{context.high}};
    mac_bytes = headers.get(TxContextHeaders::mac_header_bytes);
    ip_bytes = headers.get(TxContextHeaders::ip_header_bytes);
    l4_bytes = rest.get(TxContext::l4_header_bytes);
    segment_bytes = rest.get(TxContext::segment_bytes);
    vlan_tag = static_cast<std::uint16_t>(headers.get(TxContextHeaders::vlan_tag));
    ipv4 = rest.get(TxContext::ipv4) != 0;
    transport = static_cast<Transport>(rest.get(TxContext::l4_type));
    ip_checksum = first.get(TxData::ip_checksum) != 0 && ipv4;
    l4_checksum = first.get(TxData::l4_checksum) != 0;
    segment = first.get(TxData::segment) != 0;
}

bool Offload::can_segment() const noexcept {
    const bool known = transport == Transport::tcp || transport == Transport::udp;
    return known && segment_bytes > 0 && mac_bytes >= 14 && ip_bytes >= (ipv4 ? 20 : 40) &&
           l4_bytes >= (transport == Transport::tcp ? 20 : 8) && header_bytes() <= most_header_bytes;
}

bool Offload::insert_checksums(std::span<std::byte> frame, std::size_t added) const noexcept {
    if (ip_checksum) {
        constexpr std::size_t field = 10;
        if (ip_bytes < field + 2 || mac_bytes + ip_bytes > frame.size()) return false;
        const auto header = frame.subspan(mac_bytes, ip_bytes);
        put_16(header, field, ~std::size_t{internet_sum(header)});
    }
    if (!l4_checksum) return true;
    constexpr std::size_t udp_field = 6, sctp_field = 8, tcp_field = 16, field_bytes = 4;  // the longest, SCTP's
    const std::size_t field = transport == Transport::tcp   ? tcp_field
                              : transport == Transport::udp ? udp_field
                                                            : sctp_field;
    if (transport == Transport::reserved || mac_bytes + ip_bytes + field + field_bytes > frame.size() + 2) return false;
    const auto packet = frame.subspan(mac_bytes + ip_bytes);
    if (transport == Transport::sctp) {
        if (packet.size() < sctp_field + field_bytes) return false;
        const std::uint32_t checksum = sctp_checksum(packet);
        std::memcpy(&packet[sctp_field], &checksum, sizeof(checksum));
        return true;
    }
    auto checksum = static_cast<std::uint16_t>(~internet_sum(packet, static_cast<std::uint32_t>(added)));
    // MISSING: what becomes of a UDP checksum that comes out as 0, which would mean "none" (RFC 768).
    if (transport == Transport::udp && checksum == 0) checksum = 0xffff;
    put_16(packet, field, checksum);
    return true;
}

bool Offload::finish_segment(std::span<std::byte> frame, std::size_t number, bool last) const noexcept {
    const auto ip = frame.subspan(mac_bytes), packet = ip.subspan(ip_bytes);
    if (ipv4) {
        put_16(ip, 2, ip.size());
        put_16(ip, 4, get_16(ip, 4) + number);
    } else {
        put_16(ip, 4, ip.size() - 40);
    }
    if (transport == Transport::tcp) {
        const std::uint32_t sequence = (std::uint32_t{get_16(packet, 4)} << 16 | get_16(packet, 6)) +
                                       static_cast<std::uint32_t>(number * segment_bytes);
        put_16(packet, 4, sequence >> 16);
        put_16(packet, 6, sequence);
        // No FIN and PSH before the end, no CWR at the end. MISSING: which mask a single segment gets; here the last's.
        constexpr std::size_t before_the_end = 0xff6, at_the_end = 0xf7f, header_length = 0xf000;
        put_16(packet, 12, get_16(packet, 12) & (header_length | (last ? at_the_end : before_the_end)));
    } else {
        put_16(packet, 4, packet.size());
    }
    return insert_checksums(frame, packet.size());  // the pseudo-header's sum came without the length
}

}  // namespace vitrine::vf_sim
