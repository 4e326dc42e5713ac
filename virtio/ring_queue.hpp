#pragma once

#include <cstdint>
#include <utility>

#include "virtio/ring_base.hpp"

namespace vitrine::virtio {

/// What every queue says of its ring, whatever it puts into it. Poll thread, except where another is named.
template <class Ring>
class RingQueue {
public:
    /// Shows the driver what was given back: one store, at most one eventfd write. False: nothing was.
    bool publish() noexcept { return ring_.publish(); }
    /// publish() without the interrupt, which follows with the next one. While the poll thread stands still.
    bool show() noexcept { return ring_.show(); }
    void owe_call() noexcept { ring_.owe_call(); }

    /// True when the driver has added something that was not taken yet. A receive ring that never has is an unused
    /// pair.
    bool has_waiting() const noexcept { return ring_.has_waiting(); }
    /// Whether the driver should kick when it adds something; look at has_waiting() again after saying yes.
    void want_kicks(bool wanted) noexcept { ring_.want_kicks(wanted); }
    /// -1: the front-end gave none and the ring must be polled.
    int kick_descriptor() const { return ring_.kick_descriptor(); }
    /// Reads the kick eventfd; at most once a loop, however often the guest kicks.
    void drain_kick() noexcept { ring_.drain_kick(); }
    void set_events(RingEvents events) noexcept { ring_.set_events(events); }

    bool broken() const { return ring_.broken(); }
    /// Position of the oldest chain that the driver has not got back.
    std::uint16_t used_index() const { return ring_.used(); }
    /// What GET_VRING_BASE answers.
    std::uint32_t base() const { return ring_.base(); }

protected:
    explicit RingQueue(Ring ring) noexcept : ring_(std::move(ring)) {}
    ~RingQueue() = default;
    RingQueue(RingQueue&&) = default;

    Ring ring_;
};

}  // namespace vitrine::virtio
