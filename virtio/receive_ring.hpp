#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/offset_queue.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/receive_queue.hpp"
#include "virtio/ring_queue.hpp"
#include "virtio/vrx_start.hpp"

namespace vitrine::virtio {

/// A ring with a marker that cannot be followed (docs/vrx.md, 3.4). It says so, and nothing else ever.
template <class Ring>
class RefusedQueue : public RingQueue<Ring> {
public:
    RefusedQueue(Ring ring, vrx::Answer answer) noexcept : RingQueue<Ring>(std::move(ring)), answer_(answer) {
        answer_marker(this->ring_, answer);
    }
    vrx::Answer answer() const { return answer_; }
    bool has_waiting() const noexcept { return false; }
    void want_kicks(bool /*wanted*/) noexcept {}

private:
    vrx::Answer answer_;  // the guest could change the one in its ring
};

/// A receive ring, whatever its driver makes of it: buffers to copy into, pages that are lent, buffers with an offset,
/// or nothing. What it is shows with the first buffer or credit after the start (docs/vrx.md, 3 and 7.1). Poll thread.
class ReceiveRing : public AnyQueue<ReceiveQueue, PagesQueue, OffsetQueue, RefusedQueue<DeviceRing>, PackedReceiveQueue,
                                    PackedPagesQueue, RefusedQueue<PackedDeviceRing>> {
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
        : AnyQueue(std::in_place_type<ReceiveQueue>, memory, ring, terms.mergeable, counters),
          memory_(memory),
          terms_(terms),
          counters_(counters) {}
    /// `stopped_pages`: an earlier start of this ring lent pages, and `ring` goes on where it stopped
    /// (docs/vrx.md, 9.5); its packed_pages_of_frame().
    ReceiveRing(const GuestMemory& memory, PackedDeviceRing ring, const Terms& terms,
                std::optional<std::uint16_t> stopped_pages, ReceiveCounters& counters)
        : AnyQueue(std::in_place_type<PackedReceiveQueue>, memory, std::move(ring), terms.mergeable, counters),
          memory_(memory),
          terms_(terms),
          counters_(counters),
          stopped_pages_(stopped_pages) {
        if (stopped_pages) go_on();
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
    void decide() noexcept;
    void decide_split(ReceiveQueue& standard) noexcept;
    void decide_packed(PackedReceiveQueue& standard) noexcept;
    void go_on() noexcept;
    void lend_packed(PackedPagesQueue::Start how, std::uint16_t most_pages_of_frame, std::uint16_t read) noexcept;
    template <class Ring>
    void refuse(Ring ring, vrx::Answer answer) noexcept;
    void reclaim() noexcept;

    const GuestMemory& memory_;
    Terms terms_;
    ReceiveCounters& counters_;
    bool decided_ = false;
    std::optional<std::uint16_t> stopped_pages_;
};

}  // namespace vitrine::virtio
