#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>
#include <vitrine/port.hpp>

#include "apps/guest/header_page.hpp"
#include "mem/region_layout.hpp"

namespace vitrine::guest {

/// What an application sees: the frames behind a header page's entries. An entry that cannot be ends it, and nothing
/// outside the region's pages is ever read.
class ShownFrames {
public:
    /// The page has valid `entries`. The region is as long as its layout says.
    ShownFrames(std::span<std::byte> page, std::uint32_t entries, std::span<const std::byte> region,
                const mem::RegionLayout& layout)
        : end_(page, entries), region_(region), layout_(layout) {
        frames_.reserve(entries);
    }

    /// Everything that was shown since the last call. A frame's `first` is its first entry.
    std::span<const vitrine::Frame> receive() noexcept;
    /// Gives back the oldest ones that were received.
    void release(std::size_t frames) noexcept;
    void release_all() noexcept;
    /// Empty when the entry cannot be (any more).
    std::span<const std::byte> part(const vitrine::Frame& frame, std::size_t index) const noexcept {
        return bytes_of(end_.part(frame.first + static_cast<std::uint32_t>(index)));
    }
    /// By an owner that broke a rule.
    bool broken() const { return broken_; }
    SeeingEnd& end() { return end_; }

private:
    std::span<const std::byte> bytes_of(const ShownPart& part) const noexcept;
    FrameHeader header_of(const ShownPart& part) const noexcept;
    /// Takes the next frame; false when it is none.
    bool take_frame() noexcept;

    SeeingEnd end_;
    std::span<const std::byte> region_;
    mem::RegionLayout layout_;
    std::vector<vitrine::Frame> frames_;
    std::uint32_t next_ = 0;     ///< entry to read
    std::uint32_t release_ = 0;  ///< entry to give back
    bool broken_ = false;
};

}  // namespace vitrine::guest
