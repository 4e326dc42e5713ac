#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>
#include <vitrine/port.hpp>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/split_end.hpp"
#include "virtio/net_header.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {

/// A frame that lies in pages of the device. Its `first` is its first page.
using LentFrame = vitrine::Frame;

/// The driver of one receive queue that is lent pages (docs/vrx.md, 4): reads frames where the NIC put them. One
/// thread, or one for receive() and release() together. The poll path is
///     for (const LentFrame& frame : port.receive()) { ...; port.release(frame); }
///     port.flush();
/// Frames may be released in any order, at any time; a device can lend a queue only so many pages at once.
class PagesPort : public SplitEnd {
public:
    struct Config {
        std::uint16_t entries = 256;  ///< a power of two, 2 or more
        bool event_index = true;
    };
    static constexpr std::size_t most_frames_per_burst = 64;
    static std::size_t memory_bytes(const Config& config) { return ring_bytes(config.entries); }

    /// Writes the marker into `ram`, which is zero; the device has not seen the ring yet. Throws std::bad_alloc.
    PagesPort(GuestRam& ram, const PageRegion& region, const Config& config);

    /// After the device was started: all slots are credits. The device answers from now on.
    void start() noexcept;
    virtio::vrx::Answer answer() const noexcept {
        return virtio::vrx::Answer::in(load(used_ring_, std::memory_order_acquire));
    }

    /// The next frames. The list is good until the next call, the frames until they are released.
    std::span<const LentFrame> receive() noexcept;
    /// Gives the frame's pages back; the device sees it with the next flush().
    void release(const LentFrame& frame) noexcept;
    /// Shows the device what was read and released: at most two stores and one kick.
    void flush() noexcept;

    /// The frame's parts in order, one for each page.
    template <class Visit>
    void for_each_part(const LentFrame& frame, Visit visit) const {
        auto page = static_cast<std::uint16_t>(frame.first);
        for (std::uint16_t part = 0; part < frame.parts; ++part, page = places_[page].next)
            visit(region_.page(page).subspan(places_[page].offset, places_[page].length_bytes));
    }
    std::span<const std::byte> part(const LentFrame& frame, std::size_t index) const noexcept;
    /// The whole frame in one piece; when it lies in several it is copied to `scratch`, as far as it fits.
    std::span<const std::byte> contiguous(const LentFrame& frame, std::span<std::byte> scratch) const noexcept;

    bool has_used() const noexcept { return !broken() && used_index() != seen_; }
    /// Whether the device should call; ask has_used() again after saying yes.
    void want_calls(bool wanted) noexcept;
    /// The device said no, at the start or later: reset it, and come back without pages (3.4, 7.5).
    bool refused() const noexcept { return answer().is_refusal(); }
    std::size_t pages_held() const { return held_; }
    /// As many as the device lends (4.5).
    std::size_t most_pages_held() const {
        return std::min<std::size_t>(region_.info().held_limit, virtio::vrx::release_entries(entries_));
    }

private:
    /// Where a part of a frame lies, by page, while the page is lent.
    struct Place {
        std::uint16_t offset = 0;
        std::uint16_t next = 0;  ///< page of the frame's next part
        std::uint32_t length_bytes = 0;
        bool held = false;
    };

    /// Takes one frame; nothing when there is none, or the ring broke.
    std::optional<LentFrame> take_frame() noexcept;
    /// Takes one element that is known to be there.
    std::optional<virtio::vrx::UsedPage> take_element(bool first) noexcept;

    const PageRegion& region_;
    Config config_;
    std::vector<Place> places_;
    std::array<LentFrame, most_frames_per_burst> frames_;
    std::uint16_t seen_ = 0;        ///< elements read
    std::uint16_t used_known_ = 0;  ///< used.idx as last read and checked
    std::uint16_t credits_ = 0;     ///< avail.idx
    std::uint32_t returned_ = 0;
    std::uint32_t returned_shown_ = 0;  ///< release_index
    std::size_t held_ = 0;
};

}  // namespace vitrine::guest
