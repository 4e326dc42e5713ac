#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/offset_queue.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/receive_queue.hpp"
#include "virtio/ring_queue.hpp"

namespace vitrine::virtio {

/// A receive ring, whatever its driver makes of it: buffers to copy into, pages that are lent, buffers with an offset,
/// or nothing. What it is shows with the first buffer or credit after the start (docs/vrx.md, 3 and 7.1). Poll thread.
class ReceiveRing {
public:
    using Outcome = Delivery;

    /// What the driver agreed to, and what the operator allows.
    struct Terms {
        bool mergeable;
        bool packed_pages;     ///< feature bit 58, which a packed ring needs
        PageLending* lending;  ///< null: no VRX, a ring that asks for it is refused
        unsigned queue;
    };

    ReceiveRing(const GuestMemory& memory, const DeviceRing& ring, const Terms& terms, ReceiveCounters& counters)
        : memory_(memory),
          terms_(terms),
          counters_(counters),
          kind_(std::in_place_type<ReceiveQueue>, memory, ring, terms.mergeable, counters) {}
    /// `stopped_pages`: an earlier start of this ring lent pages, and `ring` goes on where it stopped
    /// (docs/vrx.md, 9.5); its packed_pages_of_frame().
    ReceiveRing(const GuestMemory& memory, PackedDeviceRing ring, const Terms& terms,
                std::optional<std::uint16_t> stopped_pages, ReceiveCounters& counters)
        : memory_(memory),
          terms_(terms),
          counters_(counters),
          stopped_pages_(stopped_pages),
          kind_(std::in_place_type<PackedReceiveQueue>, memory, std::move(ring), terms.mergeable, counters) {
        if (stopped_pages) decide();
    }

    /// Whether pages are lent to the ring, by lend(). If not, deliver() copies. Once a burst.
    bool lends() noexcept {
        if (!decided_) decide();
        return std::holds_alternative<PagesQueue>(kind_) || std::holds_alternative<PackedPagesQueue>(kind_);
    }
    Outcome lend(std::span<const PagesKinds::Piece> pieces, const PagesKinds::Note& note) noexcept {
        if (auto* const queue = std::get_if<PagesQueue>(&kind_)) return queue->deliver(pieces, note);
        return std::get<PackedPagesQueue>(kind_).deliver(pieces, note);
    }
    /// Takes back what the driver returned, if pages were lent. Returns how much there was.
    std::size_t absorb() noexcept {
        if (auto* const queue = std::get_if<PagesQueue>(&kind_)) return queue->absorb();
        if (auto* const queue = std::get_if<PackedPagesQueue>(&kind_)) return queue->absorb();
        return 0;
    }
    /// The ring whose buffers a NIC can write to itself; null: it is none, or is not decided yet.
    OffsetQueue* offset() noexcept { return std::get_if<OffsetQueue>(&kind_); }
    /// Copies the frame in `pieces`. `header.buffers` is filled in here. All or nothing; the driver sees it with the
    /// next publish(). There is no buffer in a ring of pages, which it may have become since lends() was asked.
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept {
        // Undecided it may have its first credits at any moment, and to copy into those breaks it.
        if (lends() || !decided_) {
            ++counters_.rx_no_buffer_tries;
            return Outcome::no_buffer;
        }
        if (auto* const queue = std::get_if<ReceiveQueue>(&kind_)) return queue->deliver(pieces, header);
        if (auto* const queue = std::get_if<PackedReceiveQueue>(&kind_)) return queue->deliver(pieces, header);
        if (auto* const queue = std::get_if<OffsetQueue>(&kind_)) return queue->deliver(pieces, header);
        ++counters_.rx_broken_ring;
        return Outcome::broken;
    }
    /// A hint that `frames` frames come soon.
    void prefetch(std::size_t frames) noexcept {
        if (auto* const queue = std::get_if<ReceiveQueue>(&kind_)) queue->prefetch(frames);
        if (auto* const queue = std::get_if<PackedReceiveQueue>(&kind_)) queue->prefetch(frames);
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
    bool broken() const {
        return std::visit([](const auto& queue) { return queue.broken(); }, kind_);
    }
    std::uint16_t used_index() const {
        return std::visit([](const auto& queue) { return queue.used_index(); }, kind_);
    }
    /// What GET_VRING_BASE answers.
    std::uint32_t base() const {
        return std::visit([](const auto& queue) { return queue.base(); }, kind_);
    }
    void set_events(RingEvents events) noexcept {
        std::visit([events](auto& queue) { queue.set_events(events); }, kind_);
    }

    /// For people: what the ring became, and why it is not what its driver asked for. Control thread, while the poll
    /// thread stands still; held() too.
    std::string_view text() const noexcept;
    /// Pages that the guest has of it.
    std::size_t held() const noexcept {
        if (const auto* const queue = std::get_if<PagesQueue>(&kind_)) return queue->held();
        const auto* const queue = std::get_if<PackedPagesQueue>(&kind_);
        return queue != nullptr ? queue->held() : 0;
    }
    /// The largest frame, in pages, that its driver is prepared for; nothing: it is no packed ring of pages.
    std::optional<std::uint16_t> packed_pages_of_frame() const noexcept {
        const auto* const queue = std::get_if<PackedPagesQueue>(&kind_);
        if (queue != nullptr) return queue->most_pages_of_frame();
        return decided_ && !broken() ? std::nullopt : stopped_pages_;
    }

private:
    /// A ring with a marker that cannot be followed (3.4). It says so, and nothing else ever.
    template <class Ring>
    class Refused : public RingQueue<Ring> {
    public:
        Refused(Ring ring, vrx::Answer answer) noexcept : RingQueue<Ring>(std::move(ring)), answer_(answer) {
            if constexpr (std::is_same_v<Ring, DeviceRing>)
                this->ring_.set_answer(answer);
            else
                PackedLendingRing::answer(this->ring_, answer);
        }
        vrx::Answer answer() const { return answer_; }
        bool has_waiting() const noexcept { return false; }
        void want_kicks(bool /*wanted*/) noexcept {}

    private:
        vrx::Answer answer_;  // the guest could change the one in its ring
    };

    void decide() noexcept;
    void decide_split(ReceiveQueue& standard) noexcept;
    void decide_packed(PackedReceiveQueue& standard) noexcept;
    void reclaim() noexcept;

    const GuestMemory& memory_;
    Terms terms_;
    ReceiveCounters& counters_;
    bool decided_ = false;
    std::optional<std::uint16_t> stopped_pages_;
    std::variant<ReceiveQueue, PagesQueue, OffsetQueue, Refused<DeviceRing>, PackedReceiveQueue, PackedPagesQueue,
                 Refused<PackedDeviceRing>>
        kind_;
};

}  // namespace vitrine::virtio
