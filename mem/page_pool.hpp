#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mem/address.hpp"

namespace vitrine::mem {

/// Who holds a packet page. Each page has exactly one holder.
enum class Holder : std::uint8_t { free, nic, device, guest };
inline constexpr std::size_t holders = 4;

/// Packet pages of one frame each, cut from one piece of memory: page p lies at p * page_bytes.
///
/// Slab-free: nothing but frame data is ever in the pages. Free list and holders live in private arrays beside them,
/// so a guest that sees the pages sees no object of ours. Owned by one poll thread; audit() may be called while that
/// thread is stopped.
class PagePool {
public:
    /// `memory` is a whole number of pages; `iova` is where the NIC sees its first byte (not 0).
    PagePool(std::span<std::byte> memory, Iova iova, std::size_t page_bytes);

    std::size_t page_bytes() const { return page_bytes_; }
    std::size_t pages() const { return holder_.size(); }
    std::size_t available() const { return free_.size(); }

    /// Takes a free page for `holder`. The pool must not be empty: check available() once a burst.
    PageId take(Holder holder) noexcept {
        assert(!free_.empty() && holder != Holder::free);
        const PageId page = free_.back();
        free_.pop_back();
        holder_[index_of(page)] = holder;
        return page;
    }
    /// Passes a page on. `from` is checked: a page in two hands is a bug of ours.
    void pass(PageId page, [[maybe_unused]] Holder from, Holder to) noexcept {
        assert(holder_[index_of(page)] == from && from != Holder::free && to != Holder::free);
        holder_[index_of(page)] = to;
    }
    /// Returns a page to the pool.
    void give(PageId page) noexcept {
        assert(holder_[index_of(page)] != Holder::free);
        holder_[index_of(page)] = Holder::free;
        free_.push_back(page);  // never allocates: reserved for all pages
    }

    /// At a start, before any page is taken: those that the guest still holds from the process before us.
    template <class IsLent>
    void leave_with_guest(IsLent is_lent) {
        std::erase_if(free_, [&](PageId page) {
            if (is_lent(page)) holder_[index_of(page)] = Holder::guest;
            return holder_[index_of(page)] == Holder::guest;
        });
    }

    Holder holder(PageId page) const { return holder_[index_of(page)]; }
    Iova iova(PageId page) const { return iova_ + index_of(page) * page_bytes_; }
    std::span<std::byte> bytes(PageId page) const { return memory_.subspan(index_of(page) * page_bytes_, page_bytes_); }

    /// Pages by holder, counted one by one, and whether the free list agrees with the holders.
    struct Audit {
        std::array<std::size_t, holders> held{};
        bool free_list_agrees = false;
        std::size_t total() const { return held[0] + held[1] + held[2] + held[3]; }
    };
    Audit audit() const;

private:
    std::span<std::byte> memory_;
    Iova iova_;
    std::size_t page_bytes_;
    std::vector<PageId> free_;
    std::vector<Holder> holder_;
};

}  // namespace vitrine::mem
