#include "tools/vf_sim/rss.hpp"

#include <algorithm>

namespace vitrine::vf_sim {
namespace {

std::uint32_t toeplitz(const std::array<std::uint8_t, Rss::key_bytes>& key, std::span<const std::byte> input) {
    // The top 32 bits of `window` are the key at the present input bit.
    std::uint64_t window = 0;
    for (unsigned i = 0; i < 8; ++i) window = window << 8 | key[i];
    std::uint32_t hash = 0;
    std::size_t next_key_byte = 8;
    for (const std::byte byte : input) {
        for (unsigned bit = 0; bit < 8; ++bit)
            if ((std::to_integer<unsigned>(byte) << bit & 0x80) != 0)
                hash ^= static_cast<std::uint32_t>(window << bit >> 32);
        // Eight bits further; bits shifted out above never come back because only 7 more are looked at before.
        window = window << 8 | (next_key_byte < key.size() ? key[next_key_byte] : 0);
        ++next_key_byte;
    }
    return hash;
}

}  // namespace

std::optional<Rss::Hash> Rss::hash(const FrameView& frame) const noexcept {
    using Network = FrameView::Network;
    using Transport = FrameView::Transport;
    if (!enabled || frame.network == Network::none) return std::nullopt;
    const bool v4 = frame.network == Network::ipv4;
    const bool with_ports = (frame.transport == Transport::tcp && (types & (v4 ? tcp_ipv4 : tcp_ipv6)) != 0) ||
                            (frame.transport == Transport::udp && (types & (v4 ? udp_ipv4 : udp_ipv6)) != 0);
    if (!with_ports && (types & (v4 ? ipv4 : ipv6)) == 0) return std::nullopt;

    // Input order: source address, destination address, source port, destination port: the order of the headers.
    std::array<std::byte, 36> input;
    const std::size_t addresses_at = frame.network_at + (v4 ? 12 : 8);
    const std::size_t address_bytes = v4 ? 8 : 32;
    std::ranges::copy(frame.bytes.subspan(addresses_at, address_bytes), input.begin());
    std::size_t size = address_bytes;
    if (with_ports) {
        std::ranges::copy(frame.bytes.subspan(frame.transport_at, 4), input.begin() + address_bytes);
        size += 4;
    }
    const std::uint8_t type = !with_ports                         ? (v4 ? 2 : 5)
                              : frame.transport == Transport::tcp ? (v4 ? 1 : 3)
                                                                  : (v4 ? 7 : 8);
    return Hash{toeplitz(key, std::span(input).first(size)), type};
}

}  // namespace vitrine::vf_sim
