#include "virtio/device_ring.hpp"

namespace vitrine::virtio {

DeviceRing::DeviceRing(const GuestMemory& memory, RingMemory where, RingFeatures features, RingEvents events,
                       RingCounters& counters) noexcept
    : RingBase(where, features, events, counters),
      memory_(memory),
      used_(load(where.used + offsetof(RingHeader, index), std::memory_order_relaxed)),
      next_(used_),
      published_(used_),
      available_(used_),
      flags_(load(where.used + offsetof(RingHeader, flags), std::memory_order_relaxed)) {}

bool DeviceRing::show() noexcept {
    if (used_ == published_) return false;
    const std::uint16_t before = published_;
    published_ = used_;
    // Release: the elements, and the frames behind them, are there before the index says so.
    store(where_.used + offsetof(RingHeader, index), used_, std::memory_order_release);
    // Our index must be visible before we read the driver's wish, else both sides could wait for each other (2.7.7.2).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    note_shown(driver_wants_call(before));
    return true;
}

bool DeviceRing::driver_wants_call(std::uint16_t before) const noexcept {
    if (!features_.event_index)
        return (load(where_.available, std::memory_order_relaxed) & available_no_interrupt) == 0;
    const std::uint16_t event = load(where_.available + used_event_offset(where_.entries), std::memory_order_relaxed);
    return passes_event(event, used_, before);
}

void DeviceRing::want_kicks(bool wanted) noexcept {
    if (!features_.event_index) {
        store_flags(static_cast<std::uint16_t>(wanted ? flags_ & ~used_no_notify : flags_ | used_no_notify));
        // The wish must be visible before the caller looks at avail.idx again (2.7.10).
        std::atomic_thread_fence(std::memory_order_seq_cst);
        return;
    }
    if (!wanted) return;  // left alone the event asks for nothing more: the driver has passed it
    // Not next(): chains that wait may be too few for the caller, and it is the next one that it wants to hear of.
    std::uint16_t event = load_available_index(std::memory_order_relaxed);
    for (unsigned tries = 0; tries < 4; ++tries) {  // a driver in full swing will be seen by has_waiting() anyway
        store(where_.used + available_event_offset(where_.entries), event, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const std::uint16_t now = load_available_index(std::memory_order_relaxed);
        if (now == event) return;
        event = now;
    }
}

void DeviceRing::set_answer(vrx::Answer answer) noexcept {
    store_flags(static_cast<std::uint16_t>((flags_ & used_no_notify) | answer.raw << vrx::Answer::shift));
    owe_call();
}

void DeviceRing::want_returns(bool wanted) noexcept {
    const auto flags =
        static_cast<std::uint16_t>(wanted ? flags_ | vrx::used_want_returns : flags_ & ~vrx::used_want_returns);
    if (flags != flags_) store_flags(flags);
}

}  // namespace vitrine::virtio
