#include "tools/vf_sim/interrupts.hpp"

#include <algorithm>
#include <poll.h>
#include <utility>

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::uint32_t vtrscint(unsigned n) {
    return 0x0180 + 4 * n;
}
constexpr std::uint32_t vtivar_bits = 0x8181'8181;
constexpr std::uint32_t vtivar_misc_bits = VTIVAR_MISC::vector.mask | VTIVAR_MISC::valid.mask;
/// Interval and low-latency moderation; the counters (bits 27:16) and CNT_WDIS read 0.
constexpr std::uint32_t vteitr_bits = VTEITR::interval.mask | 1u << 14;
constexpr std::chrono::nanoseconds throttle_step{2048};

/// The descriptor is the client's: one that is full or blocks must not hold us up.
void send_message(int eventfd) noexcept {
    pollfd entry{eventfd, POLLOUT, 0};
    if (::poll(&entry, 1, 0) == 1 && (entry.revents & POLLOUT) != 0) mem::signal_event(eventfd);
}

}  // namespace

std::uint32_t Interrupts::load(std::uint32_t offset) {
    switch (offset) {
        case VTEICR::at():
            waiting_ &= ~causes_;
            return std::exchange(causes_, 0);
        case VTEIMS::at():
            return enabled_;
        case VTEIAC::at():
            return auto_clear_;
        case VTEIAM::at():
            return auto_mask_;
        case VTIVAR::at(0):
        case VTIVAR::at(1):
        case VTIVAR::at(2):
        case VTIVAR::at(3):
            return queue_vectors_[(offset - VTIVAR::at(0)) / 4];
        case VTIVAR_MISC::at():
            return mailbox_vector_;
        case vtrscint(0):
        case vtrscint(1):
            return coalescing_[(offset - vtrscint(0)) / 4];
        case VTEITR::at(0):
        case VTEITR::at(1):
            return throttle_[(offset - VTEITR::at(0)) / 4];
        default:
            return 0;
    }
}

void Interrupts::store(std::uint32_t offset, std::uint32_t value) {
    const std::uint32_t vector_bits = value & all_causes;
    switch (offset) {
        case VTEICR::at():
            causes_ &= ~vector_bits;
            waiting_ &= ~vector_bits;
            break;
        case VTEICS::at():
            set_causes(vector_bits);
            break;
        case VTEIMS::at():
            enabled_ |= vector_bits;
            waiting_ |= vector_bits & causes_;  // a cause that came while it was masked fires now
            break;
        case VTEIMC::at():
            enabled_ &= ~vector_bits;
            break;
        case VTEIAC::at():
            auto_clear_ = vector_bits;
            break;
        case VTEIAM::at():
            auto_mask_ = vector_bits;
            break;
        case VTIVAR::at(0):
        case VTIVAR::at(1):
        case VTIVAR::at(2):
        case VTIVAR::at(3):
            queue_vectors_[(offset - VTIVAR::at(0)) / 4] = value & vtivar_bits;
            break;
        case VTIVAR_MISC::at():
            mailbox_vector_ = value & vtivar_misc_bits;
            break;
        case VFPBACL::at():
            waiting_ &= ~vector_bits;
            break;
        case vtrscint(0):
        case vtrscint(1):
            coalescing_[(offset - vtrscint(0)) / 4] = value;
            break;
        case VTEITR::at(0):
        case VTEITR::at(1):
            throttle_[(offset - VTEITR::at(0)) / 4] = value & vteitr_bits;
            break;
        default:
            break;
    }
}

std::optional<unsigned> Interrupts::queue_vector(unsigned queue, unsigned shift) const noexcept {
    const std::uint32_t entry = queue_vectors_[queue / 2] >> (16 * (queue % 2) + shift);
    if ((entry & 0x80) == 0) return std::nullopt;
    return entry & 1;
}

void Interrupts::raise_mailbox() noexcept {
    const VTIVAR_MISC entry{{mailbox_vector_}};
    if (entry.get(VTIVAR_MISC::valid) != 0 && entry.get(VTIVAR_MISC::vector) < vectors)
        raise(entry.get(VTIVAR_MISC::vector));
}

void Interrupts::raise(std::optional<unsigned> vector) noexcept {
    if (vector) set_causes(1u << *vector);
}

void Interrupts::set_causes(std::uint32_t causes) noexcept {
    waiting_ |= causes & ~causes_;
    causes_ |= causes;
}

bool Interrupts::ready(unsigned vector) const noexcept {
    return ((waiting_ & enabled_) >> vector & 1) != 0 && eventfds_[vector] && !masked_[vector];
}

void Interrupts::deliver(Time now) noexcept {
    if ((waiting_ & enabled_) == 0) return;
    for (unsigned vector = 0; vector < vectors; ++vector) {
        if (!ready(vector) || now < next_allowed_[vector]) continue;
        const std::uint32_t bit = 1u << vector;
        waiting_ &= ~bit;
        causes_ &= ~(bit & auto_clear_);
        enabled_ &= ~(bit & auto_mask_);
        if (vector < VTEITR::count)
            next_allowed_[vector] = now + throttle_step * VTEITR{{throttle_[vector]}}.get(VTEITR::interval);
        send_message(eventfds_[vector].get());
    }
}

std::optional<Time> Interrupts::due() const noexcept {
    std::optional<Time> earliest;
    for (unsigned vector = 0; vector < vectors; ++vector)
        if (ready(vector)) earliest = earliest ? std::min(*earliest, next_allowed_[vector]) : next_allowed_[vector];
    return earliest;
}

void Interrupts::assign(unsigned start, std::vector<mem::FileDescriptor> eventfds) {
    std::ranges::move(eventfds, eventfds_.begin() + start);
}

void Interrupts::remove(unsigned start, unsigned count) {
    for (unsigned vector = start; vector < start + count; ++vector) eventfds_[vector].close();
}

void Interrupts::trigger(unsigned vector) noexcept {
    if (eventfds_[vector]) send_message(eventfds_[vector].get());
}

void Interrupts::reset_registers() {
    causes_ = enabled_ = auto_clear_ = auto_mask_ = waiting_ = mailbox_vector_ = 0;
    queue_vectors_ = {};
    throttle_ = {};
    coalescing_ = {};
    next_allowed_ = {};
}

}  // namespace vitrine::vf_sim
