#include "apps/frame/outer_reader.hpp"

namespace vitrine::apps {
namespace {

/// Walks over the headers. Each step says whether there is a next one; if not, `frame.verdict` says why.
class Reader {
public:
    Reader(std::span<const std::byte> headers, std::size_t frame_bytes, const TunnelEnds& ends)
        : headers_(headers), end_(frame_bytes), ends_(ends) {}

    OuterFrame read() {
        if (ethernet() && (ends_.local.v6 ? ipv6() : ipv4()) && udp() &&
            (ends_.encapsulation == Encapsulation::vxlan ? vxlan() : geneve()))
            inner();
        return frame_;
    }

private:
    bool stop(Outer verdict) {
        frame_.verdict = verdict;
        return false;
    }
    bool has(std::size_t bytes) const { return at_ + bytes <= headers_.size() && at_ + bytes <= end_; }
    const std::byte* header() const { return headers_.data() + at_; }

    /// A tag of VLAN 0 says only a priority (IEEE 802.1Q, 6.9). Any other is somebody else's: with `vlan=` the NIC has
    /// taken ours.
    bool ethernet() {
        if (!has(ethernet_header_bytes)) return stop(Outer::not_tunnel);
        std::uint16_t type = load16(header() + 12);
        at_ = ethernet_header_bytes;
        if (type == type_vlan) {
            if (!has(vlan_tag_bytes) || (load16(header()) & 0x0fff) != 0) return stop(Outer::not_tunnel);
            type = load16(header() + 2);
            at_ += vlan_tag_bytes;
        }
        return type == (ends_.local.v6 ? type_ipv6 : type_ipv4) || stop(Outer::not_tunnel);
    }

    bool ipv4() {
        constexpr std::uint16_t more_fragments_or_offset = 0x3fff;
        if (!has(ipv4_header_bytes)) return stop(Outer::not_tunnel);
        const std::byte* const packet = header();
        if (!ends_.remote.equals(packet + 12) || !ends_.local.equals(packet + 16) || load8(packet + 9) != protocol_udp)
            return stop(Outer::not_tunnel);
        const std::size_t header_bytes = (load8(packet) & 0x0f) * 4u;
        const std::size_t packet_bytes = load16(packet + 2);
        if (load8(packet) >> 4 != 4 || header_bytes < ipv4_header_bytes || !has(header_bytes) ||
            packet_bytes < header_bytes || at_ + packet_bytes > end_ ||
            folded(add_to_sum(0, {packet, header_bytes})) != 0xffff)
            return stop(Outer::malformed);
        if ((load16(packet + 6) & more_fragments_or_offset) != 0) return stop(Outer::fragment);
        frame_.ip_offset = static_cast<std::uint16_t>(at_);
        end_ = at_ + packet_bytes;  // what comes behind is padding
        at_ += header_bytes;
        return true;
    }

    bool ipv6() {
        constexpr std::uint8_t fragment_header = 44;
        if (!has(ipv6_header_bytes)) return stop(Outer::not_tunnel);
        const std::byte* const packet = header();
        if (!ends_.remote.equals(packet + 8) || !ends_.local.equals(packet + 24)) return stop(Outer::not_tunnel);
        const std::uint8_t next = load8(packet + 6);
        if (next == fragment_header) return stop(Outer::fragment);
        if (next != protocol_udp) return stop(Outer::not_tunnel);
        const std::size_t payload_bytes = load16(packet + 4);
        if (load8(packet) >> 4 != 6 || at_ + ipv6_header_bytes + payload_bytes > end_) return stop(Outer::malformed);
        frame_.ip_offset = static_cast<std::uint16_t>(at_);
        at_ += ipv6_header_bytes;
        end_ = at_ + payload_bytes;
        return true;
    }

    bool udp() {
        if (!has(udp_header_bytes)) return stop(Outer::malformed);
        if (load16(header() + 2) != ends_.port) return stop(Outer::not_tunnel);
        const std::size_t datagram_bytes = load16(header() + 4);
        if (datagram_bytes < udp_header_bytes || at_ + datagram_bytes > end_) return stop(Outer::malformed);
        frame_.has_udp_checksum = load16(header() + 6) != 0;
        frame_.udp_offset = static_cast<std::uint16_t>(at_);
        end_ = at_ + datagram_bytes;
        at_ += udp_header_bytes;
        return true;
    }

    /// RFC 7348, 5: the other flags and the reserved fields are not looked at.
    bool vxlan() {
        if (!has(TunnelEnds::tunnel_header_bytes)) return stop(Outer::malformed);
        if ((load8(header()) & vxlan_vni_valid) == 0 || load32(header() + 4) >> 8 != ends_.vni)
            return stop(Outer::wrong_vni);
        at_ += TunnelEnds::tunnel_header_bytes;
        return true;
    }

    /// RFC 8926, 3.4. An end that knows no option must drop what has a critical one, and may skip all others.
    bool geneve() {
        if (!has(TunnelEnds::tunnel_header_bytes)) return stop(Outer::malformed);
        const std::uint8_t version_and_options = load8(header()), flags = load8(header() + 1);
        if ((version_and_options & geneve_version_mask) != 0) return stop(Outer::unsupported);
        if (load32(header() + 4) >> 8 != ends_.vni) return stop(Outer::wrong_vni);
        if ((flags & (geneve_control | geneve_critical)) != 0 || load16(header() + 2) != geneve_ethernet)
            return stop(Outer::unsupported);
        at_ += TunnelEnds::tunnel_header_bytes + (version_and_options & geneve_options_mask) * 4u;
        return true;
    }

    void inner() {
        if (at_ + ethernet_header_bytes > end_) return void(stop(Outer::malformed));
        frame_.verdict = Outer::ours;
        frame_.inner_offset = static_cast<std::uint16_t>(at_);
        frame_.inner_bytes = static_cast<std::uint32_t>(end_ - at_);
    }

    std::span<const std::byte> headers_;
    std::size_t at_ = 0;
    std::size_t end_;  ///< of what the header before says there is
    const TunnelEnds& ends_;
    OuterFrame frame_;
};

}  // namespace

OuterFrame read_outer(std::span<const std::byte> headers, std::size_t frame_bytes, const TunnelEnds& ends) noexcept {
    return Reader(headers, frame_bytes, ends).read();
}

std::uint64_t outer_pseudo_header_sum(std::span<const std::byte> headers, const OuterFrame& frame,
                                      const TunnelEnds& ends) noexcept {
    const auto addresses = headers.subspan(frame.ip_offset + (ends.local.v6 ? 8u : 12u), 2 * ends.local.size());
    return pseudo_header_sum(addresses, protocol_udp, frame.inner_offset - frame.udp_offset + frame.inner_bytes);
}

}  // namespace vitrine::apps
