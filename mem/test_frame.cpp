#include "mem/test_frame.hpp"

#include <bit>
#include <cstddef>
#include <cstring>
#include <libdeflate.h>

namespace vitrine::mem {
namespace {

static_assert(std::endian::native == std::endian::little, "the stamp is little-endian");

inline constexpr std::uint32_t stamp_magic = 0x4e525456;  // "VTRN"

struct [[gnu::packed]] StampOnWire {
    std::uint32_t magic;
    std::uint16_t flow;
    std::uint64_t sequence;
    std::uint32_t crc;
};
static_assert(stamp_offset + sizeof(StampOnWire) == least_test_frame_bytes);

void put_big_endian(std::span<std::byte> frame, std::size_t offset, std::uint16_t value) {
    frame[offset] = static_cast<std::byte>(value >> 8);
    frame[offset + 1] = static_cast<std::byte>(value);
}

/// One's complement of the one's complement sum over the 20 bytes of an IPv4 header (RFC 791).
std::uint16_t ipv4_checksum(std::span<const std::byte> header) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < header.size(); i += 2)
        sum += std::to_integer<std::uint32_t>(header[i]) << 8 | std::to_integer<std::uint32_t>(header[i + 1]);
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

std::uint32_t crc_of(std::span<const std::byte> frame) {
    constexpr std::size_t crc_at = stamp_offset + offsetof(StampOnWire, crc);
    const std::uint32_t zero = 0;
    std::uint32_t crc = libdeflate_crc32(0, frame.data(), crc_at);
    crc = libdeflate_crc32(crc, &zero, sizeof(zero));
    return libdeflate_crc32(crc, frame.data() + least_test_frame_bytes, frame.size() - least_test_frame_bytes);
}

}  // namespace

void write_test_frame(std::span<std::byte> frame, const EthernetAddress& destination, const EthernetAddress& source,
                      Stamp stamp) {
    std::memset(frame.data(), 0, stamp_offset);
    std::memcpy(frame.data(), destination.data(), destination.size());
    std::memcpy(frame.data() + 6, source.data(), source.size());
    put_big_endian(frame, 12, 0x0800);

    const auto ip = frame.subspan(14, 20);
    ip[0] = std::byte{0x45};
    put_big_endian(ip, 2, static_cast<std::uint16_t>(frame.size() - 14));
    ip[8] = std::byte{64};
    ip[9] = std::byte{17};
    put_big_endian(ip, 12, 0xc612);  // 198.18.0.0/15: benchmarking (RFC 2544)
    put_big_endian(ip, 14, 1);
    put_big_endian(ip, 16, 0xc613);
    put_big_endian(ip, 18, 1);
    put_big_endian(ip, 10, ipv4_checksum(ip));

    put_big_endian(frame, 34, static_cast<std::uint16_t>(10000 + stamp.flow));
    put_big_endian(frame, 36, 9);
    put_big_endian(frame, 38, static_cast<std::uint16_t>(frame.size() - 34));

    std::memset(frame.data() + least_test_frame_bytes, static_cast<int>(stamp.sequence & 0xff),
                frame.size() - least_test_frame_bytes);
    StampOnWire wire{stamp_magic, stamp.flow, stamp.sequence, 0};
    std::memcpy(frame.data() + stamp_offset, &wire, sizeof(wire));
    wire.crc = crc_of(frame);
    std::memcpy(frame.data() + stamp_offset, &wire, sizeof(wire));
}

std::expected<Stamp, StampFault> read_test_frame(std::span<const std::byte> frame) {
    if (frame.size() < least_test_frame_bytes) return std::unexpected(StampFault::too_short);
    StampOnWire wire;
    std::memcpy(&wire, frame.data() + stamp_offset, sizeof(wire));
    if (wire.magic != stamp_magic) return std::unexpected(StampFault::not_stamped);
    if (wire.crc != crc_of(frame)) return std::unexpected(StampFault::bad_crc);
    return Stamp{wire.flow, wire.sequence};
}

void SequenceCheck::accept(Stamp stamp) {
    std::uint64_t& next = next_[stamp.flow];
    if (stamp.sequence < next) {
        ++out_of_order_;
        return;
    }
    lost_ += stamp.sequence - next;
    next = stamp.sequence + 1;
    ++in_order_;
}

}  // namespace vitrine::mem
