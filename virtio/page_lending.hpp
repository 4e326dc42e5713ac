#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "mem/page_ledger.hpp"
#include "mem/page_pool.hpp"
#include "mem/region_layout.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::virtio {

/// What all queues that lend pages share: the pool, the ledger that says who has which page, and what the guest reads
/// beside the pages. A page's id is its place in the pool. Poll thread; set up while there is none.
class PageLending {
public:
    /// `modes`: what may be granted (InfoPage). `held_limit`: pages that the driver of one queue may hold.
    PageLending(mem::PagePool& pool, mem::PageLedger& ledger, mem::InfoPage& info, std::span<std::byte> headers,
                std::uint32_t modes, std::uint32_t held_limit)
        : pool_(pool), ledger_(ledger), info_(info), headers_(headers), modes_(modes), held_limit_(held_limit) {}

    mem::PagePool& pool() { return pool_; }
    mem::PageLedger& ledger() { return ledger_; }
    const mem::PageLedger& ledger() const { return ledger_; }
    std::uint32_t modes() const { return modes_; }
    std::uint32_t held_limit() const { return held_limit_; }
    std::uint32_t region_tag() const { return mem::region_tag(ledger_.identity().instance); }

    /// The guest's from the next used.idx on.
    void lend(unsigned queue, mem::PageId page) noexcept {
        pool_.pass(page, mem::Holder::device, mem::Holder::guest);
        ledger_.lend(queue, page);
    }
    /// False: the page is not this queue's to return. The pool has it back with give(), once the return is remembered.
    bool take_back(unsigned queue, std::uint32_t page) noexcept {
        if (page >= ledger_.pages() || !ledger_.is_lent_to(queue, mem::PageId{page})) return false;
        ledger_.take_back(mem::PageId{page});
        return true;
    }
    void give(mem::PageId page) noexcept { pool_.give(page); }

    void write_header(mem::PageId page, const NetHeader& header) noexcept {
        std::memcpy(headers_.data() + mem::header_slot_bytes * mem::index_of(page), &header, sizeof(header));
    }

    /// Whoever held this queue's pages is gone: all of them come back, and the queue starts at nothing (7.1, fresh).
    /// Returns how many there were.
    template <class Steps>
    std::size_t reclaim(unsigned queue, Steps& step) noexcept;

private:
    mem::PagePool& pool_;
    mem::PageLedger& ledger_;
    mem::InfoPage& info_;
    std::span<std::byte> headers_;
    std::uint32_t modes_;
    std::uint32_t held_limit_;
};

template <class Steps>
std::size_t PageLending::reclaim(unsigned queue, Steps& step) noexcept {
    const std::size_t held = ledger_.lent_to(queue);
    if (held != 0) {
        const std::uint32_t generation = ledger_.next_generation(queue);
        step();
        std::atomic_ref(info_.generation[queue]).store(generation, std::memory_order_relaxed);
        // Who reads a page and then the old generation has read the page before it was written again (7.4).
        std::atomic_thread_fence(std::memory_order_seq_cst);
        step();
        for (std::uint32_t page = 0; page < ledger_.pages(); ++page) {
            if (!take_back(queue, page)) continue;
            give(mem::PageId{page});
            step();
        }
    }
    ledger_.set_seen(queue, 0);
    step();
    ledger_.clear_journal(queue);
    step();
    return held;
}

}  // namespace vitrine::virtio
