// What people do to a VF from outside: the PF's administrator, and whoever breaks things on command.

#include <array>
#include <cstddef>
#include <utility>

#include "tools/vf_sim/vf.hpp"

namespace vitrine::vf_sim {

void Vf::restart_vf() {
    pf_.revoke_clear_to_send();
    if (!mailbox_.pf_in_reset()) ping();
}

void Vf::set_trusted(bool trusted) {
    if (std::exchange(pf_.policy().trusted, trusted) != trusted) restart_vf();
}

void Vf::set_rate(unsigned mbps) {
    pf_.policy().rate_mbps = mbps;
    rates_ = {};
    for (RateLimit& rate : rates_) rate.advance(now_, mbps);
}

void Vf::set_link_state(LinkState state) {
    pf_.policy().link_state = state;
    restart_vf();
}

void Vf::set_mtu(unsigned bytes, std::chrono::milliseconds length) {
    pf_.policy().mtu_bytes = bytes;
    reset_pf(length);
}

void Vf::set_link(bool up) {
    if (up == link_up_) return;
    link_up_ = up;
    if (!up) link_steady_ = false;
    if (!mailbox_.pf_in_reset()) ping();
}

// LINUX: the kernel saves configuration space around the reset of a function and restores it; so does this.
void Vf::reset_function() {
    std::array<std::byte, ConfigSpace::size_bytes> saved;
    config_.read(0, saved);
    function_level_reset();
    (void)config_.write(0, saved);
}

void Vf::reset_pf(std::chrono::milliseconds length) {
    pf_.forget_vf();
    ping();
    interrupts_.deliver(now_);  // the reset clears the interrupt registers, but not a message that has left
    mailbox_.begin_pf_reset();
    pf_.reset();
    interrupts_.reset_registers();
    for (QueueRegisters& queue : rx_) queue.reset();
    for (QueueRegisters& queue : tx_) queue.reset();
    forget_programming();
    packet_split_ = 0;
    own_rss_words_ = {};
    update_own_rss();
    statistics_ = {};
    pf_back_ = now_ + length;
}

// What ends needs its own end: the PF comes back with RSTD, the link up, a device that was plugged in again is new.
void Vf::set_faults(const Faults& faults) {
    const Faults before = std::exchange(faults_, faults);
    memory_.set_broken(faults.dma);
    if (faults.in_reset && !before.in_reset) mailbox_.begin_pf_reset();
    if (!faults.in_reset && before.in_reset) mailbox_.end_pf_reset();
    if (faults.link_flap.count() == 0 && before.link_flap.count() != 0) set_link(true);
    if (faults.link_flap.count() != 0 && before.link_flap.count() == 0) next_flap_ = now_;
    if (!faults.removed && before.removed) function_level_reset();
}

}  // namespace vitrine::vf_sim
