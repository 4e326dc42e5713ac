#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"
#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/queue_registers.hpp"

namespace vitrine::vf_sim {

/// Reads frames out of one transmit ring (82599 data sheet, 7.2.3 and 7.2.4). Descriptors are copied once and then
/// judged. A frame is taken when its last descriptor is there; what silicon cannot digest halts the queue until it is
/// enabled again.
///
/// MODEL: no checksum insertion and no segmentation yet: a frame that asks for them is completed, not sent, and
/// counted. A missing context counts as one with MACLEN 14. WTHRESH is ignored: RS is reported at once. No head
/// write-back. PAYLEN is not compared with the buffers.
class TxEngine {
public:
    static constexpr std::size_t most_frame_bytes = 15872;  ///< 15.5 KiB (7.2.1.1)
    static constexpr std::size_t least_frame_bytes = 17;
    static constexpr std::size_t padded_frame_bytes = 60;

    TxEngine(QueueRegisters& queue, DmaMap& memory, TxCounters& counters)
        : queue_(queue), memory_(memory), counters_(counters) {}

    struct Frame {
        std::span<const std::byte> bytes{};  ///< to be sent: padded, without CRC. Valid until the next take()
        bool taken = false;                  ///< something was consumed
        bool report = false;                 ///< RS: call complete(), which writes the descriptor back
    };
    /// The next frame; empty `bytes` with `taken` is one that was dropped or a context.
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

    struct Chain {
        std::array<driver::TxDescriptor, hardware_descriptors> descriptors;
        std::size_t count = 0;
        bool complete = false;
    };

    bool load(std::uint32_t index, driver::TxDescriptor& descriptor) noexcept;
    void halt(std::uint64_t& reason) noexcept;
    /// Descriptors up to EOP; not complete when the tail or an error came first.
    Chain gather(std::uint32_t owned) noexcept;
    bool copy_data(const Chain& chain) noexcept;
    /// False: dropped and counted.
    bool finish(driver::TxData first) noexcept;

    QueueRegisters& queue_;
    DmaMap& memory_;
    TxCounters& counters_;
    bool halted_ = false;
    std::array<driver::TxDescriptor, 2> contexts_{};
    std::uint32_t report_slot_ = 0;
    std::size_t length_ = 0;
    std::array<std::byte, most_frame_bytes + 4> frame_;
};

}  // namespace vitrine::vf_sim
