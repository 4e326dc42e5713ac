#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "tests/support/guest_ring.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::test {

/// The driver side of one PAGES ring (docs/vrx.md), as strict as a driver may be. It throws nothing and asserts
/// nothing, since it also acts in the middle of the device's steps: the first breach is kept in `breach`.
class VrxDriver {
public:
    struct Element {
        virtio::vrx::UsedPage word;
        std::uint16_t position;
    };

    /// The ring lies at `offset` of `ram`.
    VrxDriver(GuestRam& ram, std::uint64_t offset, std::uint16_t entries, bool event_index, std::size_t pages)
        : ram_(ram), offset_(offset), entries_(entries), event_index_(event_index), held_(pages, false) {}

    /// 3.2: a zeroed ring, then the marker, and a head that no device can follow in each available slot.
    void start(virtio::vrx::Marker marker, std::uint16_t index = 0) {
        std::memset(ram_.at(offset_), 0, bytes());
        std::memcpy(ram_.at(marker_offset()), &marker, sizeof(marker));
        for (std::uint16_t i = 0; i < entries_; ++i)
            u16(available_offset() + 4 + 2u * i).store(static_cast<std::uint16_t>(entries_ - 1));
        credits_ = seen_ = index;
        release_ = 0;
        u16(used_offset() + 2).store(index);
        u16(available_offset() + 2).store(index);
        held_.assign(held_.size(), false);
    }

    std::size_t bytes() const { return used_offset() + virtio::used_ring_bytes(entries_) - offset_; }
    std::uint64_t marker_offset() const { return offset_ + virtio::vrx::marker_offset(entries_); }
    std::uint64_t available_offset() const { return offset_ + virtio::descriptor_table_bytes(entries_); }
    std::uint64_t used_offset() const {
        return (available_offset() + virtio::available_ring_bytes(entries_) + 3) & ~std::uint64_t{3};
    }
    virtio::RingMemory where(const virtio::GuestMemory& memory) const {
        return ring_memory(memory, entries_, offset_, available_offset(), used_offset());
    }

    /// 4.2: `count` more empty slots, seen by the device at once.
    void give_credits(std::uint16_t count) {
        const std::uint16_t before = credits_;
        credits_ = static_cast<std::uint16_t>(credits_ + count);
        u16(available_offset() + 2).store(credits_, std::memory_order_release);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const bool wanted = event_index_ ? virtio::passes_event(available_event(), credits_, before)
                                         : (used_flags() & virtio::used_no_notify) == 0;
        if (wanted) kick.signal();
    }
    std::uint16_t credits() const { return credits_; }
    /// Elements read whose slots were not given as credits again.
    std::uint16_t owed_credits() const { return static_cast<std::uint16_t>(seen_ + entries_ - credits_); }

    virtio::vrx::Answer answer() const { return virtio::vrx::Answer::in(used_flags()); }
    bool has_used() const { return used_index() != seen_; }
    /// 4.1: the next element, checked, its page held from now on.
    std::optional<Element> take() {
        if (!has_used()) return std::nullopt;
        expect(answer() == virtio::vrx::Answer::granted(virtio::vrx::Mode::pages), "element without an answer");
        expect(static_cast<std::uint16_t>(used_index() - seen_) <= entries_, "used.idx ran away");
        expect(static_cast<std::uint16_t>(credits_ - used_index()) <= entries_, "used.idx beyond avail.idx");
        Element element{.word = {}, .position = seen_};
        std::memcpy(&element.word, ram_.at(used_offset() + 4 + sizeof(element.word) * (seen_ % entries_)),
                    sizeof(element.word));
        ++seen_;
        const std::uint16_t page = element.word.page();
        expect(page < held_.size(), "page out of range");
        expect(!element.word.has_unknown_bits() && element.word.length_bytes() >= 1, "element with odd bits");
        if (page < held_.size()) {
            expect(!held_[page], "page given twice");
            held_[page] = true;
        }
        return element;
    }
    bool holds(std::uint16_t page) const { return held_[page]; }

    /// 4.4: into the release ring; the device sees it with publish_returns().
    void give_back(std::uint16_t page) {
        if (page < held_.size()) held_[page] = false;
        u16(offset_ + 2 * (release_ % virtio::vrx::release_entries(entries_))).store(page, std::memory_order_relaxed);
        ++release_;
    }
    void publish_returns() {
        auto* const index = reinterpret_cast<std::uint32_t*>(ram_.at(marker_offset() + 12));
        std::atomic_ref(*index).store(release_, std::memory_order_release);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if ((used_flags() & virtio::vrx::used_want_returns) != 0) kick.signal();
    }
    std::uint32_t release_index() const { return release_; }
    void set_release_index(std::uint32_t index) { release_ = index; }

    /// 4.6: asks for a call and sleeps; true if there is nothing new by then.
    bool sleep() {
        u16(available_offset()).store(0, std::memory_order_relaxed);
        u16(available_offset() + virtio::used_event_offset(entries_)).store(seen_, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        return !has_used();
    }

    std::uint16_t seen() const { return seen_; }
    std::uint16_t used_index() const { return u16(used_offset() + 2).load(std::memory_order_acquire); }
    std::uint16_t used_flags() const { return u16(used_offset()).load(std::memory_order_acquire); }
    std::uint16_t available_event() const {
        return u16(used_offset() + virtio::available_event_offset(entries_)).load(std::memory_order_relaxed);
    }
    std::atomic_ref<std::uint16_t> u16(std::uint64_t offset) const {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(ram_.at(offset)));
    }
    void expect(bool holds, const char* what) {
        if (!holds && breach.empty()) breach = what;
    }

    std::string breach;
    mem::EventFd kick;
    mem::EventFd call;
    mem::EventFd error;

private:
    GuestRam& ram_;
    std::uint64_t offset_;
    std::uint16_t entries_;
    bool event_index_;
    std::vector<bool> held_;
    std::uint16_t credits_ = 0;  ///< avail.idx
    std::uint16_t seen_ = 0;
    std::uint32_t release_ = 0;
};

}  // namespace vitrine::test
