#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"
#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/offload.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/ring_watch.hpp"
#include "tools/vf_sim/rules.hpp"

namespace vitrine::vf_sim {

/// Reads frames out of one transmit ring (82599 data sheet, 7.2.3 and 7.2.4). Descriptors are copied once and then
/// judged. A frame is taken when its last descriptor is there; what silicon cannot digest halts the queue until it is
/// enabled again. A frame that asks for segmentation leaves as several, read piece by piece.
///
/// MODEL: a missing context counts as one of zeros. WTHRESH is ignored: RS is reported at once. No head
/// write-back. PAYLEN matters to frames that are segmented, and halts the queue when the buffers hold another amount.
class TxEngine {
public:
    static constexpr std::size_t most_frame_bytes = 15872;  ///< 15.5 KiB (7.2.1.1)
    static constexpr std::size_t least_frame_bytes = 17;
    static constexpr std::size_t padded_frame_bytes = 60;

    TxEngine(QueueRegisters& queue, DmaMap& memory, TxCounters& counters, Rules& rules, RingWatch& watch)
        : queue_(queue), memory_(memory), counters_(counters), rules_(rules), watch_(watch) {}

    struct Frame {
        std::span<const std::byte> bytes{};  ///< to be sent: padded, without CRC. Valid until the next take()
        bool taken = false;                  ///< something was consumed
        bool report = false;                 ///< RS, and the last segment: complete() writes the descriptor back
    };
    /// The next frame or segment; empty `bytes` with `taken` is one that was dropped or a context.
    Frame take() noexcept;
    /// The frame of the last take() with a tag put in; it must have none.
    std::span<const std::byte> insert_tag(std::uint16_t tag) noexcept;
    /// After the frame has left: writes back if RS was set.
    void complete(const Frame& frame) noexcept;
    /// Enabling forgets contexts and a halt.
    void enable() noexcept;
    bool halted() const noexcept { return halted_; }

private:
    static constexpr std::size_t hardware_descriptors = 40;
    static constexpr std::uint32_t no_tail = ~std::uint32_t{0};

    struct Chain {
        std::array<driver::TxDescriptor, hardware_descriptors> descriptors;
        std::size_t count = 0;
    };

    bool load(std::uint32_t index, driver::TxDescriptor& descriptor) noexcept;
    void halt(std::uint64_t& reason) noexcept;
    void expect(bool kept, Rule rule) noexcept;
    void take_context(const driver::TxDescriptor& descriptor, std::uint32_t owned) noexcept;
    void hold_against_rules(driver::TxData first) noexcept;
    /// Descriptors up to EOP into chain_; false when the tail or an error came first.
    bool gather(std::uint32_t owned) noexcept;
    /// Whether what the chain asks for is possible at all; halts or counts otherwise.
    bool accept(const driver::TxData& first) noexcept;
    bool read(std::size_t offset, std::span<std::byte> to) noexcept;
    Frame next_piece() noexcept;
    /// False: dropped and counted.
    bool read_whole() noexcept;
    bool read_segment() noexcept;

    QueueRegisters& queue_;
    DmaMap& memory_;
    TxCounters& counters_;
    Rules& rules_;
    RingWatch& watch_;
    bool halted_ = false;
    std::array<driver::TxDescriptor, 2> contexts_{};
    std::uint32_t contexts_known_ = 0;  // one bit a slot
    unsigned contexts_in_a_row_ = 0;
    std::uint32_t unfinished_at_ = no_tail;  // the tail that was found inside a frame
    Chain chain_;                            // of the frame that is being sent
    Offload offload_{{}, {}};
    std::size_t total_ = 0;  // bytes in its buffers
    std::size_t rest_ = 0;   // bytes of payload that are still to be sent
    std::size_t segments_ = 0;
    std::uint32_t report_slot_ = 0;
    std::size_t length_ = 0;
    std::array<std::byte, most_frame_bytes + 4> frame_;
};

}  // namespace vitrine::vf_sim
