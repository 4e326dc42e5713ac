#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace vitrine::vf_sim {

/// What became of a frame that came to a function, from the wire or from another function. Each has one counter;
/// together they make up all that was offered.
enum class RxOutcome : std::size_t {
    delivered,
    link_down,
    rx_disabled,    ///< by the PF, or the queue is not enabled, or the function may not master the bus
    too_long,       ///< for the port (MAXFRS) or the queue (RLPML)
    filtered_mac,   ///< not ours: address, multicast hash, mode
    filtered_vlan,  ///< tagged with a VLAN that the VF did not join
    no_descriptor,  ///< too few posted for all of the frame, or the ring's registers make no sense
    dma_fault,      ///< descriptor or buffer is outside what was mapped
    stalled,        ///< a fault on command
};
inline constexpr std::array rx_outcome_names{"delivered",     "link_down",    "rx_disabled",
                                             "too_long",      "filtered_mac", "filtered_vlan",
                                             "no_descriptor", "dma_fault",    "stalled"};

struct RxCounters {
    std::array<std::uint64_t, rx_outcome_names.size()> frames{};  ///< by RxOutcome
    std::uint64_t delivered_bytes = 0;                            ///< without CRC

    void count(RxOutcome outcome, std::uint64_t bytes) noexcept {
        ++frames[static_cast<std::size_t>(outcome)];
        if (outcome == RxOutcome::delivered) delivered_bytes += bytes;
    }
    std::uint64_t delivered() const noexcept { return frames[static_cast<std::size_t>(RxOutcome::delivered)]; }
    std::uint64_t offered() const noexcept { return std::accumulate(frames.begin(), frames.end(), std::uint64_t{0}); }
};

/// Frames that the VF asked to send. `halted_*` count queues that stopped until they are enabled again.
struct TxCounters {
    std::uint64_t sent = 0;
    std::uint64_t sent_bytes = 0;  ///< as on the wire, padding included, without CRC
    std::uint64_t spoofed = 0;     ///< source address or VLAN is not the VF's
    std::uint64_t too_short = 0;
    std::uint64_t no_crc = 0;             ///< IFCS missing
    std::uint64_t offload_refused = 0;    ///< checksum or segmentation that the context does not allow
    std::uint64_t halted_descriptor = 0;  ///< legacy, of unknown type, or a context inside a frame
    std::uint64_t halted_chain = 0;       ///< more descriptors than a frame may have
    std::uint64_t halted_length = 0;      ///< longer than the hardware's limit
    std::uint64_t halted_dma = 0;         ///< descriptor or data is outside what was mapped
};

}  // namespace vitrine::vf_sim
