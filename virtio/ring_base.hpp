#pragma once

#include <cstddef>
#include <cstdint>

#include "virtio/counters.hpp"

namespace vitrine::virtio {

/// Where one ring lies in our address space: translated, aligned, each part inside one region. Of a packed ring the
/// descriptors are the ring, and the other two are the event suppression of driver and device.
struct RingMemory {
    std::uint16_t entries;
    std::byte* descriptors;
    std::byte* available;
    std::byte* used;
};

/// The eventfds of a ring; -1 is none. Owned by the device, swapped while the poll thread stands still.
struct RingEvents {
    int kick = -1;
    int call = -1;
    int error = -1;
};

/// What the driver agreed to, as far as rings care.
struct RingFeatures {
    bool indirect;
    bool event_index;
};

/// What split and packed rings have in common: how both sides are woken, and what becomes of a broken one. Poll thread.
class RingBase {
public:
    std::uint16_t entries() const { return where_.entries; }
    bool broken() const { return broken_; }

    /// What a look at a chain ended with.
    enum class Walk {
        complete,
        refused,  ///< the visitor said no; the head is good and can be given back
        broken,   ///< this is no chain, and the ring is broken now
    };

    /// The driver may wait for an interrupt that never came: one follows with the next publish().
    void owe_call() noexcept { call_owed_ = true; }
    /// -1: the front-end gave none and the ring must be polled.
    int kick_descriptor() const { return events_.kick; }
    /// Reads the kick eventfd; call it at most once a loop, however often the guest kicks.
    void drain_kick() noexcept;
    /// Control thread, while the poll thread stands still.
    void set_events(RingEvents events) noexcept { events_ = events; }

    /// Nothing moves from now on; the front-end hears of it through the error eventfd. Poll thread, as publish(). A
    /// ring that breaks before it has eventfds, at its start, says so with the first call.
    void break_ring() noexcept;

protected:
    RingBase(const RingMemory& where, RingFeatures features, RingEvents events, RingCounters& counters) noexcept
        : where_(where), features_(features), events_(events), counters_(counters) {}
    ~RingBase() = default;
    RingBase(const RingBase&) = default;
    RingBase(RingBase&&) = default;

    /// The driver can see what was used. `wanted`: it asked to hear of it.
    void note_shown(bool wanted) noexcept {
        if (wanted)
            call_owed_ = true;
        else
            ++counters_.calls_suppressed;
    }
    /// A write to the front-end's eventfd can block (see mem::Handover).
    void call_if_owed() noexcept {
        if (call_owed_) call();
    }

    RingMemory where_;
    RingFeatures features_;

private:
    void call() noexcept;

    RingEvents events_;
    RingCounters& counters_;
    bool broken_ = false;
    bool call_owed_ = false;
    bool error_owed_ = false;
};

}  // namespace vitrine::virtio
