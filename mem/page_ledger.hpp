#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "mem/address.hpp"

namespace vitrine::mem {

/// The place of a step that a crash can come before or behind. This one costs nothing; a test's notes the moment.
struct NoSteps {
    void operator()() const noexcept {}
};

/// What has to survive the process: which pages the guest holds, and how far each queue was (docs/vrx.md, 7.5).
///
/// It lies in a private file in memory. A killed process leaves its stores there in program order, so all that is
/// needed is to keep the compiler from changing that order. One poll thread; set up while there is none.
class PageLedger {
public:
    static constexpr unsigned most_queues = 128;
    static constexpr std::size_t most_pages = 65535;
    static constexpr std::size_t most_journal_pages = 64;

    /// Which region this ledger is about.
    struct Identity {
        std::uint64_t device = 0;  ///< st_dev and st_ino of the region's file
        std::uint64_t inode = 0;
        std::array<std::uint8_t, 16> instance{};
        std::uint32_t page_bytes = 0;
        std::uint32_t page_count = 0;
        std::uint32_t queues = 0;

        bool operator==(const Identity&) const = default;
    };

    static constexpr std::size_t bytes_for(std::size_t pages, std::size_t queues) {
        return sizeof(Header) + queues * sizeof(Queue) + pages;
    }

    PageLedger() = default;
    /// The ledger that `memory` holds, if it is whole and has the right size.
    static std::optional<PageLedger> in(std::span<std::byte> memory);
    /// A new ledger in zeroed `memory` of bytes_for(): no page is lent.
    static PageLedger make(std::span<std::byte> memory, const Identity& identity);
    /// Makes what in() would find unusable.
    static void spoil(std::span<std::byte> memory);

    const Identity& identity() const { return header_->identity; }
    std::size_t pages() const { return states_.size(); }
    unsigned queues() const { return static_cast<unsigned>(queues_.size()); }

    bool is_lent(PageId page) const { return states_[index_of(page)] != ours; }
    bool is_lent_to(unsigned queue, PageId page) const { return states_[index_of(page)] == state_of(queue); }
    std::size_t lent_to(unsigned queue) const {
        return static_cast<std::size_t>(std::ranges::count(states_, state_of(queue)));
    }
    void lend(unsigned queue, PageId page) noexcept { store(states_[index_of(page)], state_of(queue)); }
    void take_back(PageId page) noexcept { store(states_[index_of(page)], ours); }

    std::uint32_t generation(unsigned queue) const { return queues_[queue].generation; }
    std::uint32_t next_generation(unsigned queue) noexcept {
        store(queues_[queue].generation, queues_[queue].generation + 1);
        return queues_[queue].generation;
    }
    /// How far the release ring was read.
    std::uint32_t seen(unsigned queue) const { return queues_[queue].seen; }
    void set_seen(unsigned queue, std::uint32_t seen) noexcept { store(queues_[queue].seen, seen); }

    /// Notes the pages that are about to be shown from `used_index` on. While they are written the old entry is void:
    /// what it named was shown, so its index is no longer the ring's.
    template <class Steps>
    void write_journal(unsigned queue, std::uint16_t used_index, std::span<const PageId> pages, Steps& step) noexcept {
        assert(!pages.empty() && pages.size() <= most_journal_pages);
        Queue& record = queues_[queue];
        for (std::size_t i = 0; i < pages.size(); ++i) {
            store(record.journal_pages[i], static_cast<std::uint16_t>(index_of(pages[i])));
            step();
        }
        store(record.journal, used_index | static_cast<std::uint32_t>(pages.size()) << 16);  // valid with this store
        step();
    }
    void clear_journal(unsigned queue) noexcept { store(queues_[queue].journal, 0u); }
    /// The pages that were about to be shown when the used index was `used_index`, and so never were.
    std::span<const std::uint16_t> journal(unsigned queue, std::uint16_t used_index) const {
        const std::uint32_t entry = queues_[queue].journal;
        if (static_cast<std::uint16_t>(entry) != used_index) return {};
        return std::span(queues_[queue].journal_pages).first(std::min<std::size_t>(entry >> 16, most_journal_pages));
    }

private:
    struct Header {
        std::uint64_t magic;  ///< written last
        Identity identity;
    };
    struct Queue {
        std::uint32_t generation;
        std::uint32_t seen;
        std::uint32_t journal;  ///< used index, and in the upper half how many pages; 0 pages: none
        std::array<std::uint16_t, most_journal_pages> journal_pages;
    };
    static constexpr std::uint64_t magic = 0x3152'4547'444c'5650;  // "PVLDGER1"
    static constexpr std::uint8_t ours = 0;

    PageLedger(std::span<std::byte> memory, const Identity& identity);

    static std::uint8_t state_of(unsigned queue) { return static_cast<std::uint8_t>(queue + 1); }
    /// In program order, as far as the compiler is concerned.
    template <class Word>
    static void store(Word& place, Word value) noexcept {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        std::atomic_ref(place).store(value, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }

    Header* header_ = nullptr;
    std::span<Queue> queues_;
    std::span<std::uint8_t> states_;
};

}  // namespace vitrine::mem
