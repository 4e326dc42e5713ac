#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "tools/vf_sim/frame_view.hpp"

namespace vitrine::vf_sim {

/// Receive-side scaling (82599 data sheet, 7.1.2.8): a Toeplitz hash over addresses and ports chooses the queue.
struct Rss {
    static constexpr std::size_t key_bytes = 40;
    /// Bits of `types`, as in VFMRQC.
    static constexpr std::uint32_t tcp_ipv4 = 1u << 16, ipv4 = 1u << 17, ipv6 = 1u << 20, tcp_ipv6 = 1u << 21,
                                   udp_ipv4 = 1u << 22, udp_ipv6 = 1u << 23;
    struct Hash {
        std::uint32_t value;
        std::uint8_t type;  ///< as written into the descriptor: 1 TCP/IPv4 ... 8 UDP/IPv6
    };

    bool enabled = false;
    std::uint32_t types = 0;
    std::array<std::uint8_t, key_bytes> key{};
    std::array<std::uint8_t, 128> table{};
    unsigned table_entries = 128;  ///< a power of two

    /// Nothing for a frame of no enabled type.
    std::optional<Hash> hash(const FrameView& frame) const noexcept;
    /// Limited by RQPL: the queue is below 2^queues_log2.
    unsigned queue(std::uint32_t hash_value, unsigned queues_log2) const noexcept {
        return table[hash_value & (table_entries - 1)] & ((1u << queues_log2) - 1) & 3;
    }
};

}  // namespace vitrine::vf_sim
