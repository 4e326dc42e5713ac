#include "virtio/ring_base.hpp"

#include "mem/file_descriptor.hpp"

namespace vitrine::virtio {

void RingBase::call() noexcept {
    call_owed_ = false;
    if (error_owed_ && events_.error >= 0) {
        error_owed_ = false;
        mem::signal_event(events_.error);
    }
    if (events_.call < 0) return;
    if (mem::signal_event(events_.call))
        ++counters_.calls;
    else
        ++counters_.calls_refused;
}

void RingBase::drain_kick() noexcept {
    if (events_.kick >= 0 && mem::drain_event(events_.kick)) ++counters_.kicks;
}

void RingBase::break_ring() noexcept {
    if (broken_) return;
    broken_ = true;
    ++counters_.ring_broken;
    error_owed_ = events_.error < 0;
    if (!error_owed_) mem::signal_event(events_.error);
}

}  // namespace vitrine::virtio
