#pragma once

#include <cstdint>
#include <utility>
#include <variant>

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

/// A queue of one of several kinds, and what each can be asked.
template <class... Queues>
class AnyQueue {
public:
    bool publish() noexcept {
        return std::visit([](auto& queue) { return queue.publish(); }, kind_);
    }
    bool show() noexcept {
        return std::visit([](auto& queue) { return queue.show(); }, kind_);
    }
    void owe_call() noexcept {
        std::visit([](auto& queue) { queue.owe_call(); }, kind_);
    }
    bool has_waiting() const noexcept {
        return std::visit([](const auto& queue) { return queue.has_waiting(); }, kind_);
    }
    void want_kicks(bool wanted) noexcept {
        std::visit([wanted](auto& queue) { queue.want_kicks(wanted); }, kind_);
    }
    int kick_descriptor() const {
        return std::visit([](const auto& queue) { return queue.kick_descriptor(); }, kind_);
    }
    void drain_kick() noexcept {
        std::visit([](auto& queue) { queue.drain_kick(); }, kind_);
    }
    void set_events(RingEvents events) noexcept {
        std::visit([events](auto& queue) { queue.set_events(events); }, kind_);
    }
    bool broken() const {
        return std::visit([](const auto& queue) { return queue.broken(); }, kind_);
    }
    std::uint32_t base() const {
        return std::visit([](const auto& queue) { return queue.base(); }, kind_);
    }

protected:
    template <class Queue, class... Arguments>
    explicit AnyQueue(std::in_place_type_t<Queue> kind, Arguments&&... arguments)
        : kind_(kind, std::forward<Arguments>(arguments)...) {}
    ~AnyQueue() = default;
    AnyQueue(AnyQueue&&) = default;

    std::variant<Queues...> kind_;
};

}  // namespace vitrine::virtio
