#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

/// The header page, by which the owner of a port shows frames to an application (docs/zero_copy.md): its layout, and
/// either side of it. Memory alone: who maps it, and how both wake each other, is elsewhere.
namespace vitrine::guest {

struct HeaderPage {
    // The owner's, before the application sees it.
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t queue;
    std::uint32_t entries;
    std::uint32_t reserved;
    std::array<std::uint8_t, 16> instance;
    std::array<std::uint8_t, 32> reserved_line;
    // The owner's.
    std::uint64_t shown;  ///< [31:0] the poll word, [63:32] the count
    std::array<std::uint8_t, 56> owner_line;
    // The application's.
    std::uint32_t released;
    std::uint32_t sleeping;
    std::uint32_t gather_bytes;

    static constexpr std::uint32_t magic_number = 0x41585256;  // "VRXA"
    static constexpr std::uint16_t version_number = 1;
    static constexpr std::uint32_t fewest_entries = 512;
    static constexpr std::uint32_t most_entries = 65536;
    static constexpr std::size_t entries_offset = 4096;

    static constexpr bool valid_entries(std::uint32_t entries) {
        return std::has_single_bit(entries) && entries >= fewest_entries && entries <= most_entries;
    }
};
static_assert(offsetof(HeaderPage, instance) == 16 && offsetof(HeaderPage, shown) == 64 &&
              offsetof(HeaderPage, released) == 128 && offsetof(HeaderPage, gather_bytes) == 136);
static_assert(std::endian::native == std::endian::little);

/// One part of a frame.
struct ShownPart {
    std::uint64_t offset;  ///< from the start of the region
    std::uint32_t length_bytes;
    std::uint32_t flags;

    static constexpr std::uint32_t next = 1;    ///< the frame goes on in the next entry
    static constexpr std::uint32_t header = 2;  ///< the header table's slot for this page is valid
    static constexpr std::uint32_t checksum_ok = 4;
    static constexpr std::uint32_t known_flags = next | header | checksum_ok;
};
static_assert(sizeof(ShownPart) == 16);

constexpr std::size_t header_page_bytes(std::uint32_t entries) {
    return HeaderPage::entries_offset + sizeof(ShownPart) * entries;
}

/// The one message on the door's socket, with three descriptors: header page, region, and what to sleep on.
struct Welcome {
    std::uint32_t magic = HeaderPage::magic_number;
    std::uint32_t version = HeaderPage::version_number;
    static constexpr std::size_t descriptors = 3;
};

/// The owner's side. It reads three fields of the page, which the application may change at any time, and nothing else.
class ShowingEnd {
public:
    /// `memory` is zero, and header_page_bytes(entries) long.
    ShowingEnd(std::span<std::byte> memory, std::uint32_t entries, unsigned queue,
               const std::array<std::uint8_t, 16>& instance) noexcept
        : page_(reinterpret_cast<HeaderPage*>(memory.data())),
          parts_(reinterpret_cast<ShownPart*>(memory.data() + HeaderPage::entries_offset)),
          entries_(entries) {
        assert(HeaderPage::valid_entries(entries) && memory.size() >= header_page_bytes(entries));
        page_->magic = HeaderPage::magic_number;
        page_->version = HeaderPage::version_number;
        page_->queue = static_cast<std::uint16_t>(queue);
        page_->entries = entries;
        page_->instance = instance;
    }

    std::uint32_t room() const noexcept { return entries_ - (staged_ - released_); }
    /// Counts parts since the start, modulo 2^32.
    std::uint32_t staged_until() const noexcept { return staged_; }
    std::uint32_t released_until() const noexcept { return released_; }
    bool has_staged() const noexcept { return staged_ != shown_; }
    /// Parts that were shown and not released.
    std::uint32_t held() const noexcept { return shown_ - released_; }

    /// There is room.
    void stage(const ShownPart& part) noexcept {
        assert(room() > 0);
        ShownPart& slot = parts_[staged_++ & (entries_ - 1)];
        std::atomic_ref(slot.offset).store(part.offset, std::memory_order_relaxed);
        std::atomic_ref(slot.length_bytes).store(part.length_bytes, std::memory_order_relaxed);
        std::atomic_ref(slot.flags).store(part.flags, std::memory_order_relaxed);
    }
    /// Shows what is staged. True: the application may be asleep.
    bool show() noexcept {
        shown_ = staged_;
        const std::uint64_t word = ++polls_ | std::uint64_t{shown_} << 32;
        // Release: entries and frames are there before the word says so.
        std::atomic_ref(page_->shown).store(word, std::memory_order_release);
        // The word must be visible before we look whether the application sleeps, as it looks at the word once more
        // after it said so.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        return std::atomic_ref(page_->sleeping).load(std::memory_order_relaxed) != 0;
    }
    /// Looks once what was released. False: the application claims what cannot be.
    bool take_released() noexcept {
        // Acquire: the application's reads of the frames come before what we do with them.
        const std::uint32_t released = std::atomic_ref(page_->released).load(std::memory_order_acquire);
        if (released - released_ > held()) return false;
        released_ = released;
        return true;
    }
    std::uint32_t gather_bytes() const noexcept {
        return std::atomic_ref(page_->gather_bytes).load(std::memory_order_relaxed);
    }

private:
    HeaderPage* page_;
    ShownPart* parts_;
    std::uint32_t entries_;
    std::uint32_t polls_ = 0;
    std::uint32_t staged_ = 0;
    std::uint32_t shown_ = 0;     ///< the count
    std::uint32_t released_ = 0;  ///< as last read and checked
};

/// The application's side. The owner is trusted with more than it, yet nothing is read without a bound.
class SeeingEnd {
public:
    /// The page has valid entries.
    explicit SeeingEnd(std::span<std::byte> memory, std::uint32_t entries) noexcept
        : page_(reinterpret_cast<HeaderPage*>(memory.data())),
          parts_(reinterpret_cast<ShownPart*>(memory.data() + HeaderPage::entries_offset)),
          entries_(entries) {}

    bool has_new() const noexcept {
        return static_cast<std::uint32_t>(std::atomic_ref(page_->shown).load(std::memory_order_relaxed)) != poll_;
    }
    /// Looks once how many parts were shown. False: more than there can be.
    bool look() noexcept {
        const std::uint64_t word = std::atomic_ref(page_->shown).load(std::memory_order_acquire);
        const auto count = static_cast<std::uint32_t>(word >> 32);
        if (count - taken_ > entries_ - (taken_ - released_)) return false;
        poll_ = static_cast<std::uint32_t>(word);
        taken_ = count;
        return true;
    }
    /// Counts the parts that look() has told of, modulo 2^32.
    std::uint32_t taken() const noexcept { return taken_; }
    ShownPart part(std::uint32_t index) const noexcept {
        ShownPart& slot = parts_[index & (entries_ - 1)];
        return {std::atomic_ref(slot.offset).load(std::memory_order_relaxed),
                std::atomic_ref(slot.length_bytes).load(std::memory_order_relaxed),
                std::atomic_ref(slot.flags).load(std::memory_order_relaxed)};
    }
    /// Gives back the oldest ones, up to `index`.
    void release_until(std::uint32_t index) noexcept {
        released_ = index;
        std::atomic_ref(page_->released).store(index, std::memory_order_release);  // what we read of them was before
    }
    void gather(std::uint32_t bytes) noexcept {
        std::atomic_ref(page_->gather_bytes).store(bytes, std::memory_order_relaxed);
    }
    /// Look again after saying yes.
    void want_wake_up(bool wanted) noexcept {
        std::atomic_ref(page_->sleeping).store(wanted ? 1 : 0, std::memory_order_relaxed);
        if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
    }

private:
    HeaderPage* page_;
    ShownPart* parts_;
    std::uint32_t entries_;
    std::uint32_t poll_ = 0;
    std::uint32_t taken_ = 0;
    std::uint32_t released_ = 0;
};

}  // namespace vitrine::guest
