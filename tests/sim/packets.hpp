#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mem/test_frame.hpp"

/// Packets with true checksums, made the slow way, so that they can judge the model's.
namespace vitrine::sim_test {

using Bytes = std::vector<std::byte>;

inline unsigned at_16(std::span<const std::byte> bytes, std::size_t offset) {
    return std::to_integer<unsigned>(bytes[offset]) << 8 | std::to_integer<unsigned>(bytes[offset + 1]);
}
inline void set_16(std::span<std::byte> bytes, std::size_t offset, unsigned value) {
    bytes[offset] = static_cast<std::byte>(value >> 8);
    bytes[offset + 1] = static_cast<std::byte>(value);
}
/// Word by word, with the carry put back at once.
inline unsigned slow_sum(std::span<const std::byte> bytes, unsigned sum = 0) {
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        sum += std::to_integer<unsigned>(bytes[i]) << 8;
        if (i + 1 < bytes.size()) sum += std::to_integer<unsigned>(bytes[i + 1]);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

struct PacketShape {
    bool ipv4 = true;
    unsigned protocol = 6;  ///< 6 TCP, 17 UDP, 132 SCTP
    std::size_t payload_bytes = 100;
    std::size_t ip_bytes() const { return ipv4 ? 20 : 40; }
    std::size_t l4_bytes() const { return protocol == 6 ? 32 : protocol == 17 ? 8 : 12; }
    std::size_t l4_at() const { return 14 + ip_bytes(); }
    std::size_t header_bytes() const { return l4_at() + l4_bytes(); }
    std::size_t checksum_at() const { return l4_at() + (protocol == 6 ? 16 : protocol == 17 ? 6 : 8); }
};

inline unsigned pseudo_sum(const PacketShape& shape, std::span<const std::byte> frame, std::size_t length) {
    const std::size_t addresses = shape.ipv4 ? 26 : 22;
    return slow_sum(frame.subspan(addresses, shape.ipv4 ? 8 : 32),
                    shape.protocol + static_cast<unsigned>(length >> 16) + static_cast<unsigned>(length & 0xffff));
}

/// All fields true but the checksums, which are 0.
inline Bytes make_packet(const PacketShape& shape, const mem::EthernetAddress& to, const mem::EthernetAddress& from) {
    Bytes frame(shape.header_bytes() + shape.payload_bytes);
    for (std::size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<std::byte>(i * 37 + i / 256);
    for (std::size_t i = 0; i < 6; ++i) {
        frame[i] = static_cast<std::byte>(to[i]);
        frame[6 + i] = static_cast<std::byte>(from[i]);
    }
    set_16(frame, 12, shape.ipv4 ? 0x0800 : 0x86dd);
    const auto ip = std::span(frame).subspan(14);
    const auto l4_length = static_cast<unsigned>(frame.size() - shape.l4_at());
    if (shape.ipv4) {
        set_16(ip, 0, 0x4500);
        set_16(ip, 2, l4_length + 20);
        set_16(ip, 4, 0xfffe);  // identification: about to wrap
        set_16(ip, 6, 0x4000);
        set_16(ip, 8, 64 << 8 | shape.protocol);
        set_16(ip, 10, 0);
    } else {
        set_16(ip, 0, 0x6000);
        set_16(ip, 2, 0);
        set_16(ip, 4, l4_length);
        set_16(ip, 6, shape.protocol << 8 | 64);
    }
    if (shape.protocol == 6) {
        set_16(frame, shape.l4_at() + 4, 0xffff);  // sequence: about to wrap
        set_16(frame, shape.l4_at() + 6, 0xfc00);
        set_16(frame, shape.l4_at() + 12, 0x80d9);  // 32 bytes of header; CWR, ECE, ACK, PSH, FIN
    }
    if (shape.protocol == 17) set_16(frame, shape.l4_at() + 4, l4_length);
    set_16(frame, shape.checksum_at(), 0);
    if (shape.protocol == 132) set_16(frame, shape.checksum_at() + 2, 0);
    return frame;
}

/// True when both sums are right.
inline bool checksums_good(const PacketShape& shape, std::span<const std::byte> frame) {
    const std::size_t length = shape.ipv4 ? at_16(frame, 16) - 20 : at_16(frame, 18);
    const bool ip_good = !shape.ipv4 || slow_sum(frame.subspan(14, 20)) == 0xffff;
    return ip_good && slow_sum(frame.subspan(shape.l4_at(), length), pseudo_sum(shape, frame, length)) == 0xffff;
}

}  // namespace vitrine::sim_test
