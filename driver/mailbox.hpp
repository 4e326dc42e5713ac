#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "driver/clock.hpp"
#include "driver/failure.hpp"
#include "driver/mailbox_messages.hpp"
#include "driver/registers.hpp"

namespace vitrine::driver {

using MailboxWords = std::array<std::uint32_t, mailbox_words>;

/// Sixteen words shared with the PF, who answers in its own time. The PF's words are returned, never trusted.
///
/// MISSING: the data sheet leaves the order of a transfer to software. LINUX: a message is written while VFU is held,
/// REQ alone releases and signals; the reply is read while VFU is held, ACK alone releases and signals. PFACK is not
/// waited for. The PF tries for PFU once only, so VFU is never held longer than a copy takes.
template <RegisterSpace Space, Clock C>
class Mailbox {
public:
    static constexpr std::chrono::nanoseconds limit = std::chrono::seconds(1);
    static constexpr std::chrono::nanoseconds step = std::chrono::microseconds(500);

    Mailbox(Space& bar, C& clock) : bar_(bar), clock_(clock) {}

    /// VFMAILBOX with every event since it was last taken: one read clears three unrelated bits, so they are kept.
    VFMAILBOX peek() {
        const auto now = read<VFMAILBOX>(bar_);
        events_ |= now.raw & VFMAILBOX::read_to_clear;
        return VFMAILBOX{{now.raw | events_}};
    }
    /// Forgets events that have been dealt with.
    void take(std::uint32_t events) { events_ &= ~events; }

    /// Sends `words` and returns the PF's reply. Throws std::system_error (ETIMEDOUT) naming `attempt`.
    MailboxWords request(std::span<const std::uint32_t> words, const std::string& attempt) {
        lock(attempt);
        peek();
        take(VFMAILBOX::pf_status.mask | VFMAILBOX::pf_acknowledge.mask);
        for (unsigned word = 0; word < words.size(); ++word) write(bar_, VFMBMEM{{words[word]}}, word);
        write(bar_, VFMAILBOX{}.with(VFMAILBOX::request, 1));

        std::optional<MailboxWords> reply;
        const bool answered = wait_until(clock_, limit, step, [&] {
            reply = poll(attempt);
            return reply && answers(MessageHead{{words[0]}}, MessageHead{{reply->front()}});
        });
        if (!answered) fail(ETIMEDOUT, attempt + ": the PF is silent (is its driver running?)");
        return *reply;
    }

    /// A message from the PF, if one waits. Throws std::system_error (ETIMEDOUT) when the PF never lets go of the
    /// memory.
    std::optional<MailboxWords> poll(const std::string& attempt) {
        if (!peek().get(VFMAILBOX::pf_status)) return std::nullopt;
        lock(attempt);
        take(VFMAILBOX::pf_status.mask);
        MailboxWords words;
        for (unsigned word = 0; word < words.size(); ++word) words[word] = read<VFMBMEM>(bar_, word).raw;
        write(bar_, VFMAILBOX{}.with(VFMAILBOX::acknowledge, 1));
        return words;
    }

private:
    /// A bare failure without a type is the PF's answer to whatever was sent before it saw a reset.
    static bool answers(MessageHead request, MessageHead reply) {
        if (!reply.get(MessageHead::success) && !reply.get(MessageHead::failure)) return false;
        const bool bare = reply.raw == MessageHead::failure.mask;
        return bare || reply.get(MessageHead::type) == request.get(MessageHead::type);
    }

    void lock(const std::string& attempt) {
        const bool locked = wait_until(clock_, limit, step, [&] {
            write(bar_, VFMAILBOX{}.with(VFMAILBOX::vf_owns, 1));
            return peek().get(VFMAILBOX::vf_owns) != 0;
        });
        if (!locked) fail(ETIMEDOUT, attempt + ": the PF holds the mailbox");
    }

    Space& bar_;
    C& clock_;
    std::uint32_t events_ = 0;
};

}  // namespace vitrine::driver
