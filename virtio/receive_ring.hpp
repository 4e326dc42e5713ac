#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/offset_queue.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/receive_queue.hpp"

namespace vitrine::virtio {

/// A receive ring, whatever its driver makes of it: buffers to copy into, pages that are lent, buffers with an offset,
/// or nothing. What it is shows with the first buffer or credit after the start (docs/vrx.md, 3 and 7.1). Poll thread.
class ReceiveRing {
public:
    using Outcome = Delivery;

    /// `lending` is null where the operator allows no VRX; a ring that asks for it is refused then.
    ReceiveRing(const GuestMemory& memory, const DeviceRing& ring, bool mergeable, PageLending* lending, unsigned queue,
                ReceiveCounters& counters)
        : memory_(memory),
          mergeable_(mergeable),
          lending_(lending),
          queue_(queue),
          counters_(counters),
          kind_(std::in_place_type<ReceiveQueue>, memory, ring, mergeable, counters) {}

    /// The ring that pages are lent to; null: deliver() copies. Once a burst.
    PagesQueue* pages() noexcept {
        if (!decided_) decide();
        return std::get_if<PagesQueue>(&kind_);
    }
    /// The ring whose buffers a NIC can write to itself; null: it is none, or is not decided yet.
    OffsetQueue* offset() noexcept { return std::get_if<OffsetQueue>(&kind_); }
    /// Copies the frame in `pieces`. `header.buffers` is filled in here. All or nothing; the driver sees it with the
    /// next publish(). There is no buffer in a ring of pages, which it may have become since pages() was asked.
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept {
        if (!decided_) decide();
        // Undecided it may have its first credits at any moment, and to copy into those breaks it.
        if (!decided_ || std::holds_alternative<PagesQueue>(kind_)) {
            ++counters_.rx_no_buffer_tries;
            return Outcome::no_buffer;
        }
        if (auto* const queue = std::get_if<ReceiveQueue>(&kind_)) return queue->deliver(pieces, header);
        if (auto* const queue = std::get_if<OffsetQueue>(&kind_)) return queue->deliver(pieces, header);
        ++counters_.rx_broken_ring;
        return Outcome::broken;
    }
    /// A hint that `frames` frames come soon.
    void prefetch(std::size_t frames) noexcept {
        if (auto* const queue = std::get_if<ReceiveQueue>(&kind_)) queue->prefetch(frames);
    }

    bool publish() noexcept {
        return std::visit([](auto& queue) { return queue.publish(); }, kind_);
    }
    bool show() noexcept {
        return std::visit([](auto& queue) { return queue.show(); }, kind_);
    }
    void owe_call() noexcept {
        std::visit([](auto& queue) { queue.owe_call(); }, kind_);
    }
    bool has_buffers() const noexcept {
        return std::visit([](const auto& queue) { return queue.has_buffers(); }, kind_);
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
    bool broken() const {
        return std::visit([](const auto& queue) { return queue.broken(); }, kind_);
    }
    std::uint16_t used_index() const {
        return std::visit([](const auto& queue) { return queue.used_index(); }, kind_);
    }
    void set_events(RingEvents events) noexcept {
        std::visit([events](auto& queue) { queue.set_events(events); }, kind_);
    }
    const ReceiveCounters& counters() const { return counters_; }

    /// For people: what the ring became, and why it is not what its driver asked for. Control thread, while the poll
    /// thread stands still; held() too.
    std::string_view text() const noexcept;
    /// Pages that the guest has of it.
    std::size_t held() const noexcept {
        const auto* const queue = std::get_if<PagesQueue>(&kind_);
        return queue != nullptr ? queue->held() : 0;
    }

private:
    /// A ring with a marker that cannot be followed (3.4). It says so, and nothing else ever.
    class Refused {
    public:
        Refused(const DeviceRing& ring, vrx::Answer answer) noexcept : ring_(ring), answer_(answer) {
            ring_.set_answer(answer);
        }
        vrx::Answer answer() const { return answer_; }
        bool publish() noexcept { return ring_.publish(); }
        bool show() noexcept { return ring_.show(); }
        void owe_call() noexcept { ring_.owe_call(); }
        bool has_buffers() const noexcept { return false; }
        void want_kicks(bool /*wanted*/) noexcept {}
        int kick_descriptor() const { return ring_.kick_descriptor(); }
        void drain_kick() noexcept { ring_.drain_kick(); }
        bool broken() const { return ring_.broken(); }
        std::uint16_t used_index() const { return ring_.used(); }
        void set_events(RingEvents events) noexcept { ring_.set_events(events); }

    private:
        DeviceRing ring_;
        vrx::Answer answer_;  // the guest could change the one in its ring
    };

    void decide() noexcept;

    const GuestMemory& memory_;
    bool mergeable_;
    PageLending* lending_;
    unsigned queue_;
    ReceiveCounters& counters_;
    bool decided_ = false;
    std::variant<ReceiveQueue, PagesQueue, OffsetQueue, Refused> kind_;
};

}  // namespace vitrine::virtio
