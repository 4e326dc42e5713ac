#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "virtio/counters.hpp"
#include "virtio/delivery.hpp"
#include "virtio/lending_ring.hpp"
#include "virtio/net_header.hpp"
#include "virtio/packed_lending_ring.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/ring_queue.hpp"
#include "virtio/steps.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// What queues of pages are given, whatever their ring.
struct PagesKinds {
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
    enum class Start { fresh, live };
};

/// Frames on their way into the guest as pages that it may read: a used element says page, offset and length, and the
/// ring gives the page back (docs/vrx.md, 4, 7 and 9). No byte of a frame is read or written here.
///
/// `Steps` marks each point at which the process may die with something half done. Poll thread.
template <class Steps = mem::NoSteps, class Ring = LendingRing>
class BasicPagesQueue : public RingQueue<Ring>, public PagesKinds {
public:
    /// What is shown by one publish() at most; more goes out in between.
    static constexpr std::size_t burst = mem::PageLedger::most_journal_pages;

    using Outcome = Delivery;

    /// At the first credit after the ring's start; `step` is the tests'.
    BasicPagesQueue(PageLending& lending, unsigned queue, Ring ring, Start start, ReceiveCounters& counters,
                    Steps step = {}) noexcept
        : RingQueue<Ring>(std::move(ring)),
          lending_(lending),
          queue_(queue),
          counters_(counters),
          step_(step),
          limit_(std::min<std::size_t>(lending.held_limit(), vrx::release_entries(ring_.entries()))) {
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
        if (count > std::min({ring_.most_pages_of_frame(), limit_, burst})) {
            ++counters_.rx_oversize;
            return Outcome::dropped;
        }
        if (staged_ + count > burst) publish();
        if (held_ + count > limit_ || ring_.credits(count) < count) {
            absorb();
            if (held_ + count > limit_) return refuse(Outcome::held);
            if (ring_.credits(count) < count) return refuse(Outcome::no_buffer);
        }

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

    /// Shows the driver what was delivered: one store, at most one eventfd write. False: nothing was.
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
        std::size_t freed = 0;
        const std::size_t count = ring_.read_returns(most_absorbed, [&](std::uint16_t page) {
            if (lending_.take_back(queue_, page)) {
                freed_[freed++] = mem::PageId{page};
                maybe_seen_ = false;
            } else if (!maybe_seen_ || page >= lending_.ledger().pages()) {
                ++counters_.bad_returns;
            }
            step_();
        });
        if (count == 0) return 0;
        ring_.remember_returns(lending_.ledger(), queue_);
        step_();
        // Only now may they be lent again: a return that is read twice must not find its page with the guest (7.5).
        for (std::size_t i = 0; i < freed; ++i) lending_.give(freed_[i]);
        held_ -= freed;
        return count;
    }

    /// That its driver is prepared for, or the ring can hold.
    std::uint16_t most_pages_of_frame() const { return static_cast<std::uint16_t>(ring_.most_pages_of_frame()); }
    /// Pages that the guest has, or will have with the next publish().
    std::size_t held() const { return held_; }
    std::size_t staged() const { return staged_; }

private:
    using RingQueue<Ring>::ring_;

    static constexpr std::size_t most_absorbed = 256;

    Outcome refuse(Outcome why) noexcept {
        if (ring_.broken()) {
            ++counters_.rx_broken_ring;
            return Outcome::broken;
        }
        ++(why == Outcome::held ? counters_.rx_held_tries : counters_.rx_no_buffer_tries);
        return why;
    }

    /// The order is what a restart relies on: journal, states, elements, and then, at publish(), used.idx (7.5). Packed
    /// rings outlive no process; of theirs the states come first, so that no element ever names a page that is free.
    void commit() noexcept {
        if (staged_ == 0) return;
        const auto pages = std::span(pages_).first(staged_);
        lent_since_absorb_ += staged_;
        staged_ = 0;
        if (ring_.broken()) return take_back_staged(pages);
        ring_.write_journal(lending_.ledger(), queue_, pages, step_);
        for (const mem::PageId page : pages) {
            lending_.lend(queue_, page);
            step_();
        }
        for (std::size_t i = 0; i < pages.size(); ++i) {
            ring_.put_page(elements_[i]);
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
        ring_.grant();
        step_();
    }
    void start_live() noexcept {
        if constexpr (Ring::outlives_process) forget_unseen();
        held_ = lending_.ledger().lent_to(queue_);
        ring_.resume_returns(lending_.ledger(), queue_);
        maybe_seen_ = Ring::outlives_process;
        absorb();  // one turn: no more than that can have been carried out and not yet noted in `seen`
        maybe_seen_ = false;
    }
    /// What a process that died was about to show, and did not.
    void forget_unseen() noexcept {
        mem::PageLedger& ledger = lending_.ledger();
        for (const std::uint16_t page : ledger.journal(queue_, ring_.used())) {  // the driver never saw these
            if (lending_.take_back(queue_, page)) lending_.give(mem::PageId{page});
            step_();
        }
        ledger.clear_journal(queue_);
        step_();
    }

    PageLending& lending_;
    unsigned queue_;
    ReceiveCounters& counters_;
    [[no_unique_address]] Steps step_;
    std::size_t limit_;     ///< pages that the driver may hold
    std::size_t held_ = 0;  ///< pages that it does, and those that are staged
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
using PackedPagesQueue = BasicPagesQueue<DeviceSteps, PackedLendingRing>;

}  // namespace vitrine::virtio
