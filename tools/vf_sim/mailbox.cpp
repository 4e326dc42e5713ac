#include "tools/vf_sim/mailbox.hpp"

#include <algorithm>
#include <utility>

namespace vitrine::vf_sim {

using driver::VFMAILBOX;

std::uint32_t Mailbox::load_control() {
    return std::exchange(latched_, 0) | (vf_owns_ ? VFMAILBOX::vf_owns.mask : 0) |
           (in_reset_ ? VFMAILBOX::in_reset.mask : 0);
}

// The PF takes, uses and gives back the buffer inside one of the VF's accesses or between two of them, so the VF never
// finds PFU set.
Mailbox::Signals Mailbox::store_control(std::uint32_t value) {
    const VFMAILBOX written{{value}};
    vf_owns_ = written.get(VFMAILBOX::vf_owns) != 0;
    return {.request = written.get(VFMAILBOX::request) != 0, .acknowledge = written.get(VFMAILBOX::acknowledge) != 0};
}

bool Mailbox::take(MailboxWords& message) {
    if (vf_owns_) return false;
    message = words_;
    latched_ |= VFMAILBOX::pf_acknowledge.mask;
    return true;
}

bool Mailbox::post(std::span<const std::uint32_t> message) {
    if (vf_owns_) return false;
    std::ranges::copy(message, words_.begin());
    latched_ |= VFMAILBOX::pf_status.mask;
    return true;
}

void Mailbox::begin_pf_reset() {
    in_reset_ = true;
}

void Mailbox::end_pf_reset() {
    in_reset_ = false;
    latched_ |= VFMAILBOX::reset_done.mask;
}

void Mailbox::reset() {
    latched_ = 0;
    vf_owns_ = false;
}

}  // namespace vitrine::vf_sim
