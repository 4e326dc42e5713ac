#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "driver/descriptors.hpp"
#include "driver/mailbox_messages.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/interrupts.hpp"
#include "tools/vf_sim/mailbox.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/words.hpp"

namespace vitrine::vf_sim {

/// What goes wrong on command, in one function. MODEL: no silicon does these by itself; all are off until told.
struct Faults {
    enum class PfVoice { answers, silent, refuses, lies_about_version };

    PfVoice pf = PfVoice::answers;
    bool in_reset = false;                   ///< RSTI stays set, without a word before
    bool removed = false;                    ///< every register reads all ones, nothing moves
    bool dma = false;                        ///< every DMA is a fault
    bool tx_stuck = false;                   ///< no descriptor is fetched
    bool tx_lost = false;                    ///< frames leave, and no descriptor is written back
    bool rx_stall = false;                   ///< frames are counted as received, and nothing is written
    std::chrono::milliseconds link_flap{0};  ///< the link changes each time that this has passed; 0: it stays

    // Receive write-backs.
    std::chrono::milliseconds rx_delay{0};  ///< each comes so late
    bool rx_reorder = false;                ///< only every second one does
    bool rx_duplicate = false;              ///< the last one of a frame is written into the next descriptor as well
    std::uint64_t info_mask = 0, info_lie = 0, done_mask = 0, done_lie = 0;  ///< bits that say something else

    bool stop_transmit() const { return tx_stuck || removed; }
    bool spoils_write_backs() const { return rx_delay.count() != 0 || rx_duplicate || (info_mask | done_mask) != 0; }
    /// What `NAME [ARGUMENTS]` changes: it adds one fault, or removes all. Throws std::invalid_argument.
    static std::function<void(Faults&)> parse(Words& words);
    /// The names, for an operator.
    static std::string names();

    /// What the PF would have answered to `request` becomes what it answers.
    void distort(driver::MessageHead request, MailboxWords& answer) const;
};

/// Receive write-backs on their way, when a fault holds or changes them.
class SpoiledWriteBacks {
public:
    void write(const Faults& faults, const QueueRegisters& queue, mem::Iova slot, driver::RxInfo info,
               driver::RxDone done, DmaMap& memory) noexcept;
    /// Time has passed: what is due is written.
    void advance(Time now, DmaMap& memory) noexcept;
    /// The queue stops: its write-backs would hit a ring that is another one by then.
    void forget(const QueueRegisters& queue) noexcept;
    std::optional<Time> due() const noexcept;

private:
    struct Late {
        Time due;
        const QueueRegisters* queue;
        mem::Iova slot;
        driver::RxInfo info;
        driver::RxDone done;
    };
    std::vector<Late> late_;
    Time now_{};
    bool odd_ = false;
};

}  // namespace vitrine::vf_sim
