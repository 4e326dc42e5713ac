#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mem/page_ledger.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// How pages go out and come back over a split ring (docs/vrx.md, 4): credits in avail.idx, returns in the release ring
/// that lies over the descriptor table, and in the ledger what a restart of the process needs (7.5).
class LendingRing : public DeviceRing {
public:
    static constexpr bool outlives_process = true;

    explicit LendingRing(const DeviceRing& ring) noexcept : DeviceRing(ring) {}

    std::size_t most_pages_of_frame() const { return entries(); }
    void grant() noexcept { set_answer(vrx::Answer::granted(vrx::Mode::pages)); }

    /// Elements that may be put: looks for more only when fewer than `wanted` are known. take() uses them up.
    std::size_t credits(std::size_t wanted) noexcept { return waiting(static_cast<std::uint16_t>(wanted)); }
    void put_page(vrx::UsedPage element) noexcept { put(element.raw); }

    /// Calls `visit` with the pages that the driver returned and that were not read yet, at most `most`. Returns how
    /// many entries there were. A driver that returns more than it can have held breaks the ring.
    template <class Visit>
    std::size_t read_returns(std::size_t most, Visit visit) noexcept {
        // Acquire: the driver is done with the pages before it says so, and the slots are written.
        const std::uint32_t unread = load_release_index() - seen_;
        if (unread > vrx::release_entries(entries())) {
            break_ring();
            return 0;
        }
        const std::size_t count = std::min<std::size_t>(unread, most);
        for (std::size_t i = 0; i < count; ++i) visit(load_release_slot(seen_ + static_cast<std::uint32_t>(i)));
        seen_ += static_cast<std::uint32_t>(count);
        return count;
    }
    void remember_returns(mem::PageLedger& ledger, unsigned queue) noexcept { ledger.set_seen(queue, seen_); }
    /// Reads on where an earlier start had stopped, maybe that of another process.
    void resume_returns(const mem::PageLedger& ledger, unsigned queue) noexcept { seen_ = ledger.seen(queue); }

    template <class Steps>
    void write_journal(mem::PageLedger& ledger, unsigned queue, std::span<const mem::PageId> pages,
                       Steps& step) noexcept {
        ledger.write_journal(queue, used(), pages, step);
    }

    /// For credits and for returned pages.
    void want_kicks(bool wanted) noexcept {
        want_returns(wanted);
        DeviceRing::want_kicks(wanted);
    }

private:
    std::uint32_t load_release_index() const noexcept {
        std::byte* const field =
            where().descriptors + vrx::marker_offset(entries()) + offsetof(vrx::Marker, release_index);
        return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(field)).load(std::memory_order_acquire);
    }
    std::uint16_t load_release_slot(std::uint32_t index) const noexcept {
        auto* const slots = reinterpret_cast<std::uint16_t*>(where().descriptors);
        const std::uint32_t slot = index & (vrx::release_entries(entries()) - 1);
        return std::atomic_ref(slots[slot]).load(std::memory_order_relaxed);
    }

    std::uint32_t seen_ = 0;  ///< release ring entries read
};

}  // namespace vitrine::virtio
