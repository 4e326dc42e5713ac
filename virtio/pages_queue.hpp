#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "virtio/counters.hpp"
#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/steps.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// Frames on their way into the guest as pages that it may read: a used element says page, offset and length, and the
/// release ring gives the page back (docs/vrx.md, 4 and 7). No byte of a frame is read or written here.
///
/// `Steps` marks each point at which the process may die with something half done. Poll thread.
template <class Steps = mem::NoSteps>
class BasicPagesQueue {
public:
    /// What is shown by one publish() at most; more goes out in between.
    static constexpr std::size_t burst = mem::PageLedger::most_journal_pages;

    /// A part of a frame in a page that the caller holds (Holder::device).
    struct Piece {
        mem::PageId page;
        std::uint32_t offset;
        std::uint32_t length_bytes;
    };
    /// What there is to say of a frame beside its bytes. A header is for GSO, NEEDS_CSUM or a hash; it says it all.
    struct Note {
        bool checksum_ok = false;
        const NetHeader* header = nullptr;
    };
    using Outcome = Delivery;
    enum class Start { fresh, live };

    /// At the first credit after the ring's start; `step` is the tests'.
    BasicPagesQueue(PageLending& lending, unsigned queue, DeviceRing ring, Start start, ReceiveCounters& counters,
                    Steps step = {}) noexcept
        : lending_(lending),
          queue_(queue),
          ring_(ring),
          counters_(counters),
          step_(step),
          limit_(std::min<std::size_t>(lending.held_limit(), vrx::release_entries(ring.entries()))) {
        if (start == Start::fresh)
            start_fresh();
        else
            start_live();
    }

    /// Takes the frame for the guest, who sees it with the next publish(). All or nothing: the pages are the queue's
    /// when it was delivered, and the caller's else.
    Outcome deliver(std::span<const Piece> pieces, const Note& note) noexcept {
        const std::size_t count = pieces.size();
        assert(count != 0);
        if (count > std::min({std::size_t{ring_.entries()}, limit_, burst})) {
            ++counters_.rx_oversize;
            return Outcome::dropped;
        }
        if (staged_ + count > burst) publish();
        if (held_ + count > limit_ && (absorb(), held_ + count > limit_)) return refuse(Outcome::held);
        if (ring_.waiting(static_cast<std::uint16_t>(count)) < count) return refuse(Outcome::no_buffer);

        std::uint64_t flags = note.header != nullptr ? vrx::UsedPage::header
                              : note.checksum_ok     ? vrx::UsedPage::checksum_ok
                                                     : 0;
        if (note.header != nullptr) lending_.write_header(pieces.front().page, *note.header);
        for (std::size_t i = 0; i < count; ++i, flags = 0) {
            if (i + 1 < count) flags |= vrx::UsedPage::next;
            const auto& [page, offset, length_bytes] = pieces[i];
            pages_[staged_] = page;
            elements_[staged_++] = vrx::UsedPage::of(mem::index_of(page), offset, length_bytes, flags);
        }
        ring_.take(static_cast<std::uint16_t>(count));
        held_ += count;
        return Outcome::delivered;
    }

    /// Shows the driver what was delivered: one store of used.idx, at most one eventfd write. False: nothing was.
    bool publish() noexcept {
        commit();
        const bool shown = ring_.publish();
        step_();
        if (lent_since_absorb_ >= burst) absorb();
        return shown;
    }
    /// publish() without the interrupt, which follows with the next one. While the poll thread stands still.
    bool show() noexcept {
        commit();
        return ring_.show();
    }

    /// Takes back what the driver returned, a bounded number of pages a turn. Returns how many entries were read.
    std::size_t absorb() noexcept {
        if (ring_.broken()) return 0;
        lent_since_absorb_ = 0;
        // Acquire: the driver is done with the pages before it says so, and the slots are written.
        const std::uint32_t waiting = load_release_index() - seen_;
        if (waiting > vrx::release_entries(ring_.entries())) {
            ring_.break_ring();
            return 0;
        }
        const std::size_t count = std::min<std::size_t>(waiting, most_absorbed);
        if (count == 0) return 0;
        std::size_t freed = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint16_t page = load_release_slot(seen_ + static_cast<std::uint32_t>(i));
            if (lending_.take_back(queue_, page)) {
                freed_[freed++] = mem::PageId{page};
                maybe_seen_ = false;
            } else if (!maybe_seen_ || page >= lending_.ledger().pages()) {
                ++counters_.bad_returns;
            }
            step_();
        }
        seen_ += static_cast<std::uint32_t>(count);
        lending_.ledger().set_seen(queue_, seen_);
        step_();
        // Only now may they be lent again: a return that is read twice must not find its page with the guest (7.5).
        for (std::size_t i = 0; i < freed; ++i) lending_.give(freed_[i]);
        held_ -= freed;
        return count;
    }

    /// Whether the driver should kick for credits and for returned pages; try to deliver again after saying yes.
    void want_kicks(bool wanted) noexcept {
        ring_.want_returns(wanted);
        ring_.want_kicks(wanted);
    }
    int kick_descriptor() const { return ring_.kick_descriptor(); }
    void drain_kick() noexcept { ring_.drain_kick(); }
    void owe_call() noexcept { ring_.owe_call(); }
    bool has_buffers() const noexcept { return ring_.has_waiting(); }

    bool broken() const { return ring_.broken(); }
    std::uint16_t used_index() const { return ring_.used(); }
    void set_events(RingEvents events) noexcept { ring_.set_events(events); }
    const ReceiveCounters& counters() const { return counters_; }
    /// Pages that the guest has, or will have with the next publish().
    std::size_t held() const { return held_; }
    std::size_t staged() const { return staged_; }

private:
    static constexpr std::size_t most_absorbed = 256;

    Outcome refuse(Outcome why) noexcept {
        if (ring_.broken()) {
            ++counters_.rx_broken_ring;
            return Outcome::broken;
        }
        ++(why == Outcome::held ? counters_.rx_held_tries : counters_.rx_no_buffer_tries);
        return why;
    }

    /// The order is what a restart relies on: journal, states, elements, and then used.idx (7.5).
    void commit() noexcept {
        if (staged_ == 0) return;
        const auto pages = std::span(pages_).first(staged_);
        lent_since_absorb_ += staged_;
        staged_ = 0;
        if (ring_.broken()) return take_back_staged(pages);
        lending_.ledger().write_journal(queue_, ring_.used(), pages, step_);
        for (const mem::PageId page : pages) {
            lending_.lend(queue_, page);
            step_();
        }
        for (std::size_t i = 0; i < pages.size(); ++i) {
            ring_.put(elements_[i].raw);
            step_();
            counters_.frames += !elements_[i].has(vrx::UsedPage::next);
            counters_.bytes += elements_[i].length_bytes();
        }
        counters_.elements += pages.size();
        counters_.rx_held_max = std::max<std::uint64_t>(counters_.rx_held_max, held_);
    }
    void take_back_staged(std::span<const mem::PageId> pages) noexcept {
        held_ -= pages.size();
        for (std::size_t i = 0; i < pages.size(); ++i) {
            counters_.rx_broken_ring += !elements_[i].has(vrx::UsedPage::next);
            lending_.give(pages[i]);
        }
    }

    void start_fresh() noexcept {
        counters_.rx_reclaimed += lending_.reclaim(queue_, step_);
        ring_.set_answer(vrx::Answer::granted(vrx::Mode::pages));
        step_();
    }
    void start_live() noexcept {
        mem::PageLedger& ledger = lending_.ledger();
        for (const std::uint16_t page : ledger.journal(queue_, ring_.used())) {  // the driver never saw these
            if (lending_.take_back(queue_, page)) lending_.give(mem::PageId{page});
            step_();
        }
        ledger.clear_journal(queue_);
        step_();
        held_ = ledger.lent_to(queue_);
        seen_ = ledger.seen(queue_);
        maybe_seen_ = true;
        absorb();  // one turn: no more than that can have been carried out and not yet noted in `seen`
        maybe_seen_ = false;
    }

    std::uint32_t load_release_index() const noexcept {
        std::byte* const field =
            ring_.where().descriptors + vrx::marker_offset(ring_.entries()) + offsetof(vrx::Marker, release_index);
        return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(field)).load(std::memory_order_acquire);
    }
    std::uint16_t load_release_slot(std::uint32_t index) const noexcept {
        auto* const slots = reinterpret_cast<std::uint16_t*>(ring_.where().descriptors);
        const std::uint32_t slot = index & (vrx::release_entries(ring_.entries()) - 1);
        return std::atomic_ref(slots[slot]).load(std::memory_order_relaxed);
    }

    PageLending& lending_;
    unsigned queue_;
    DeviceRing ring_;
    ReceiveCounters& counters_;
    [[no_unique_address]] Steps step_;
    std::size_t limit_;       ///< pages that the driver may hold
    std::size_t held_ = 0;    ///< pages that it does, and those that are staged
    std::uint32_t seen_ = 0;  ///< release ring entries read
    /// These entries may have been read by a former process, which took their pages back and died: not the guest's
    /// fault. Up to the first whose page is still lent, as they are carried out in order.
    bool maybe_seen_ = false;
    std::size_t lent_since_absorb_ = 0;
    std::size_t staged_ = 0;  ///< of the burst that publish() will show
    std::array<mem::PageId, burst> pages_;
    std::array<vrx::UsedPage, burst> elements_;
    std::array<mem::PageId, most_absorbed> freed_;
};

using PagesQueue = BasicPagesQueue<DeviceSteps>;

}  // namespace vitrine::virtio
