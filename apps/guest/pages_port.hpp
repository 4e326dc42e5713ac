#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/pages_end.hpp"
#include "apps/guest/split_end.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {

/// The driver of one receive queue that is lent pages (docs/vrx.md, 4): reads frames where the NIC put them. One
/// thread, or one for receive() and release() together. The poll path is
///     for (const LentFrame& frame : port.receive()) { ...; port.release(frame); }
///     port.flush();
/// Frames may be released in any order, at any time; a device can lend a queue only so many pages at once.
class PagesPort : public PagesEnd<SplitEnd> {
public:
    struct Config {
        std::uint16_t entries = 256;  ///< a power of two, 2 or more
        bool event_index = true;
    };
    static std::size_t memory_bytes(const Config& config) { return ring_bytes(config.entries); }

    /// Writes the marker into `ram`, which is zero; the device has not seen the ring yet. Throws std::bad_alloc.
    PagesPort(GuestRam& ram, const PageRegion& region, const Config& config);

    /// After the device was started: all slots are credits. The device answers from now on.
    void start() noexcept;
    virtio::vrx::Answer answer() const noexcept {
        return virtio::vrx::Answer::in(load(used_ring_, std::memory_order_acquire));
    }

    /// The next frames. The list is good until the next call, the frames until they are released.
    std::span<const LentFrame> receive() noexcept {
        return take_frames([this] { return next_element(); });
    }
    /// Gives the frame's pages back; the device sees it with the next flush().
    void release(const LentFrame& frame) noexcept;
    /// Shows the device what was read and released: at most two stores and one kick.
    void flush() noexcept;

    bool has_used() const noexcept { return !broken() && used_index() != seen_; }
    /// Whether the device should call; ask has_used() again after saying yes.
    void want_calls(bool wanted) noexcept;
    /// The device said no, at the start or later: reset it, and come back without pages (3.4, 7.5).
    bool refused() const noexcept { return answer().is_refusal(); }

private:
    std::optional<PageElement> next_element() noexcept;

    Config config_;
    std::uint16_t seen_ = 0;        ///< elements read
    std::uint16_t used_known_ = 0;  ///< used.idx as last read and checked
    std::uint16_t credits_ = 0;     ///< avail.idx
    std::uint32_t returned_ = 0;
    std::uint32_t returned_shown_ = 0;  ///< release_index
};

}  // namespace vitrine::guest
