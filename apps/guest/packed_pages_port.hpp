#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/packed_end.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/pages_end.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {

/// The driver of one receive queue that is lent pages, on a packed ring (docs/vrx.md, 9). It is used as PagesPort is.
/// Pages go back in the descriptors of credits, four in each, so it can take until later turns that all of them did.
class PackedPagesPort : public PagesEnd<PackedEnd> {
public:
    struct Config {
        std::uint16_t entries = 256;  ///< 2 or more
        bool event_index = true;
        std::size_t most_frame_bytes = 10 * 1024;  ///< more than an 82599's function receives
    };
    static std::size_t memory_bytes(const Config& config) { return ring_bytes(config.entries); }
    /// What the marker tells: so many pages a frame can take, if the ring is large enough for that (9.1).
    static std::uint16_t most_pages_of_frame(const Config& config, std::size_t page_bytes);

    /// `ram` is zero; the device has not seen the ring yet. Throws std::bad_alloc.
    PackedPagesPort(GuestRam& ram, const PageRegion& region, const Config& config);

    /// After the device was started: the marker, and credits in all other slots. The device answers from now on.
    void start() noexcept;
    /// It stays in the ring until receive() has taken it.
    virtio::vrx::Answer answer() const noexcept;
    /// The device said no: reset it, and come back without pages (3.4).
    bool refused() const noexcept { return answer().is_refusal(); }

    /// The next frames. The list is good until the next call, the frames until they are released.
    std::span<const LentFrame> receive() noexcept {
        return take_frames([this] { return next_element(); });
    }
    /// Gives the frame's pages back; the device sees it with the next flush(), or a later one (9.2).
    void release(const LentFrame& frame) noexcept;
    /// Shows the device what was read and released: at most one kick.
    void flush() noexcept;

    /// The device may have read credits, and their returns, that it has not used.
    bool stands_at(std::uint32_t base) const noexcept override;

private:
    PackedPagesPort(GuestRam& ram, const PageRegion& region, const Config& config, std::uint16_t most_pages);

    /// Takes the next element, or before all of them the answer.
    std::optional<PageElement> next_element() noexcept;
    bool take_answer() noexcept;
    /// True when the next slot may be filled, with `count` returned pages (9.2).
    bool may_fill(std::size_t count) const noexcept;
    /// Stages a credit that returns `count` pages.
    void stage_credit(std::size_t count) noexcept;

    const std::uint32_t region_tag_;
    virtio::vrx::Answer answer_;                 ///< as taken from the ring
    std::vector<std::uint16_t> released_pages_;  ///< not returned yet; never grows past what is reserved
};

}  // namespace vitrine::guest
