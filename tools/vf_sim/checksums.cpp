#include "tools/vf_sim/checksums.hpp"

#include <bit>
#include <cstring>

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::uint16_t good_sum = 0xffff;
constexpr std::size_t sctp_field = 8;

std::uint32_t fold(std::uint64_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint32_t>(sum);
}

std::uint32_t pseudo_header_sum(const FrameView& frame, std::size_t l4_bytes) {
    const bool v4 = frame.network == FrameView::Network::ipv4;
    const auto addresses = frame.bytes.subspan(frame.network_at + (v4 ? 12 : 8), v4 ? 8 : 32);
    const unsigned protocol = frame.transport == FrameView::Transport::tcp ? 6 : 17;
    return internet_sum(addresses) + protocol + static_cast<std::uint32_t>(l4_bytes);
}

}  // namespace

std::uint16_t get_16(std::span<const std::byte> bytes, std::size_t offset) noexcept {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[offset]) << 8 |
                                      std::to_integer<unsigned>(bytes[offset + 1]));
}

void put_16(std::span<std::byte> bytes, std::size_t offset, std::size_t value) noexcept {
    bytes[offset] = static_cast<std::byte>(value >> 8);
    bytes[offset + 1] = static_cast<std::byte>(value);
}

// The sum does not mind the byte order as long as the result is turned once (RFC 1071, 2): words are added as they lie.
std::uint16_t internet_sum(std::span<const std::byte> bytes, std::uint32_t start) noexcept {
    std::uint64_t sum = 0;
    std::uint32_t word = 0;
    for (; bytes.size() >= sizeof(word); bytes = bytes.subspan(sizeof(word))) {
        std::memcpy(&word, bytes.data(), sizeof(word));
        sum += word;
    }
    word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    const std::uint32_t folded = fold(sum + word);
    return static_cast<std::uint16_t>(fold(start + ((folded << 8 | folded >> 8) & 0xffff)));
}

std::uint32_t sctp_checksum(std::span<const std::byte> packet) noexcept {
    constexpr std::uint32_t reflected_polynomial = 0x82f6'3b78;
    std::uint32_t crc = ~std::uint32_t{0};
    for (std::size_t i = 0; i < packet.size(); ++i) {
        const bool is_field = i >= sctp_field && i < sctp_field + 4;
        crc ^= is_field ? 0 : std::to_integer<std::uint32_t>(packet[i]);
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? reflected_polynomial : 0);
    }
    return ~crc;  // the field is little-endian
}

RxDone checksum_verdict(const FrameView& frame, Part part) noexcept {
    using Transport = FrameView::Transport;
    RxDone verdict;
    if (frame.network == FrameView::Network::ipv4) {
        const auto header = frame.bytes.subspan(frame.network_at, frame.network_bytes);
        verdict = verdict.with(RxDone::ip_checked, 1).with(RxDone::ip_error, internet_sum(header) != good_sum);
    }
    if (frame.first_udp_fragment)
        return verdict.with(RxDone::udp_valid, get_16(frame.bytes, frame.network_at + frame.network_bytes + 6) != 0);
    if (frame.transport == Transport::none || frame.transport_bytes == 0) return verdict;

    const auto packet = frame.bytes.subspan(frame.transport_at, frame.transport_bytes);
    bool good = false;
    if (frame.transport == Transport::sctp) {
        std::uint32_t stored = 0;
        if (packet.size() < sctp_field + sizeof(stored)) return verdict;
        std::memcpy(&stored, &packet[sctp_field], sizeof(stored));
        good = stored == sctp_checksum(packet);
    } else {
        const bool udp = frame.transport == Transport::udp;
        if (packet.size() < (udp ? 8 : 20)) return verdict;
        if (udp && get_16(packet, 6) == 0) {
            // LINUX: the 82599 takes a UDP checksum that is not there for a wrong one; its successors do not look.
            if (part != Part::i82599) return verdict;
        } else {
            good = internet_sum(packet, pseudo_header_sum(frame, packet.size())) == good_sum;
        }
        verdict = verdict.with(RxDone::udp_checked, udp);
    }
    return verdict.with(RxDone::l4_checked, 1).with(RxDone::l4_error, !good);
}

}  // namespace vitrine::vf_sim
