#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "driver/registers.hpp"

namespace vitrine::vf_sim {

using MailboxWords = std::array<std::uint32_t, driver::mailbox_words>;

/// VFMAILBOX and the shared words (82599 data sheet, 7.3 of the VF chapter; 8.3.5): the lock bits and what clears what.
/// Who says what is not its matter.
class Mailbox {
public:
    struct Signals {
        bool request;
        bool acknowledge;
    };

    // The VF's side.
    /// Three bits clear by being read, all at once.
    std::uint32_t load_control();
    /// VFU follows the written bit, but is granted only while the PF does not own the buffer.
    Signals store_control(std::uint32_t value);
    std::uint32_t load_word(unsigned word) const { return words_[word]; }
    void store_word(unsigned word, std::uint32_t value) { words_[word] = value; }

    // The PF's side.
    /// Reads the VF's message and acknowledges it. False, and nothing happens, while the VF owns the buffer.
    bool take(MailboxWords& message);
    /// Writes a message. False when the VF owns the buffer: the message is lost, as with a PF that tries once.
    bool post(std::span<const std::uint32_t> message);
    void clear_words() { words_ = {}; }
    void begin_pf_reset();
    void end_pf_reset();
    bool vf_owns() const { return vf_owns_; }
    bool pf_in_reset() const { return in_reset_; }
    /// Function-level reset: all but RSTI.
    void reset();

private:
    MailboxWords words_{};
    std::uint32_t latched_ = 0;  // PFSTS, PFACK, RSTD
    bool vf_owns_ = false;
    bool in_reset_ = false;
};

}  // namespace vitrine::vf_sim
