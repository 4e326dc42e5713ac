#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>
#include <vitrine/port.hpp>

#include "apps/guest/page_region.hpp"
#include "apps/guest/violations.hpp"
#include "virtio/net_header.hpp"
#include "virtio/packed_vrx.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {

/// A frame that lies in pages of the device. Its `first` is its first page.
using LentFrame = vitrine::Frame;

/// What a used element says, on whichever ring (docs/vrx.md, 4.1 and 9.3).
struct PageElement {
    using Flag = virtio::vrx::PackedUsed;
    static constexpr std::uint64_t known_flags = Flag::next | Flag::header | Flag::checksum_ok;

    std::uint16_t page;
    std::uint16_t offset;
    std::uint32_t length_bytes;
    std::uint64_t flags;  ///< and whatever else must be zero

    bool has(std::uint32_t flag) const { return (flags & flag) != 0; }
};

/// What the drivers of PAGES rings share, whose kind is `End`: which pages they were lent, and the frames in them.
template <class End>
class PagesEnd : public End {
public:
    static constexpr std::size_t most_frames_per_burst = 64;

    /// The frame's parts in order, one for each page.
    template <class Visit>
    void for_each_part(const LentFrame& frame, Visit visit) const {
        for_each_page(frame, [&](std::uint16_t page) { visit(bytes_in(page)); });
    }
    std::span<const std::byte> part(const LentFrame& frame, std::size_t index) const noexcept {
        auto page = static_cast<std::uint16_t>(frame.first);
        for (; index != 0; --index) page = places_[page].next;
        return bytes_in(page);
    }
    /// The whole frame in one piece; when it lies in several it is copied to `scratch`, as far as it fits.
    std::span<const std::byte> contiguous(const LentFrame& frame, std::span<std::byte> scratch) const noexcept {
        if (frame.parts == 1) return frame.bytes;
        std::size_t filled = 0;
        for_each_part(frame, [&](std::span<const std::byte> part) {
            const std::size_t fitting = std::min(part.size(), scratch.size() - filled);
            std::memcpy(scratch.data() + filled, part.data(), fitting);
            filled += fitting;
        });
        return scratch.first(filled);
    }

    std::size_t pages_held() const { return held_; }
    /// As many as the device lends (4.5).
    std::size_t most_pages_held() const {
        return std::min<std::size_t>(region_.info().held_limit, virtio::vrx::release_entries(this->entries()));
    }

protected:
    std::uint16_t most_parts() const { return most_parts_; }
    /// `most_parts` a frame may have; the rest is for the ring's end.
    template <class... Arguments>
    PagesEnd(const PageRegion& region, std::uint16_t most_parts, Arguments&&... end)
        : End(std::forward<Arguments>(end)...),
          region_(region),
          most_parts_(most_parts),
          places_(region.layout().page_count) {}

    /// The next frames. `next_element()` takes what the ring has, if there is anything.
    template <class NextElement>
    std::span<const LentFrame> take_frames(NextElement next_element) noexcept {
        std::size_t count = 0;
        while (count < most_frames_per_burst) {
            const auto frame = take_frame(next_element);
            if (!frame) break;
            frames_[count++] = *frame;
        }
        return std::span(frames_).first(count);
    }
    /// Each page of a frame that the driver is done with. Until given_back() the device cannot lend it again.
    template <class Visit>
    void let_go(const LentFrame& frame, Visit visit) noexcept {
        for_each_page(frame, [&](std::uint16_t page) {
            assert(places_[page].state == Place::State::held);
            places_[page].state = Place::State::let_go;
            visit(page);
        });
        held_ -= frame.parts;
    }
    void given_back(std::uint16_t page) noexcept { places_[page].state = Place::State::with_device; }

private:
    /// Where a part of a frame lies, by page, while the page is lent.
    struct Place {
        enum class State : std::uint8_t { with_device, held, let_go };
        std::uint16_t offset = 0;
        std::uint16_t next = 0;  ///< page of the frame's next part
        std::uint32_t length_bytes = 0;
        State state = State::with_device;
    };

    std::span<const std::byte> bytes_in(std::uint16_t page) const noexcept {
        return region_.page(page).subspan(places_[page].offset, places_[page].length_bytes);
    }
    template <class Visit>
    void for_each_page(const LentFrame& frame, Visit visit) const {
        auto page = static_cast<std::uint16_t>(frame.first);
        for (std::uint16_t part = 0; part < frame.parts; ++part) {
            const std::uint16_t next = places_[page].next;
            visit(page);
            page = next;
        }
    }

    /// Nothing when there is none, or the ring broke.
    template <class NextElement>
    std::optional<LentFrame> take_frame(NextElement& next_element) noexcept {
        std::optional<PageElement> element = next_element();
        if (!element || !keep(*element, true)) return std::nullopt;
        const std::uint16_t first = element->page;
        LentFrame frame{
            .bytes = bytes_in(first), .length_bytes = element->length_bytes, .first = first, .parts = 1, .header = {}};
        if (element->has(PageElement::Flag::header))
            frame.header = std::bit_cast<FrameHeader>(region_.header(first));
        else if (element->has(PageElement::Flag::checksum_ok))
            frame.header.flags = virtio::NetHeader::data_valid;
        for (std::uint16_t last = first; element->has(PageElement::Flag::next); last = element->page) {
            element = next_element();
            if (!element && !this->broken()) this->break_ring(Violation::frame_in_parts);
            if (element && frame.parts == most_parts_) this->break_ring(Violation::element_out_of_bounds);
            if (this->broken() || !keep(*element, false)) return std::nullopt;
            places_[last].next = element->page;
            frame.length_bytes += element->length_bytes;
            ++frame.parts;
        }
        frame.header.buffers = frame.parts;
        return frame;
    }

    /// Notes a page as held, if the element can be. If not, the ring breaks.
    bool keep(const PageElement& element, bool first) noexcept {
        const mem::RegionLayout& layout = region_.layout();
        constexpr std::uint64_t first_only = PageElement::Flag::header | PageElement::Flag::checksum_ok;
        if (element.page >= layout.page_count || element.length_bytes == 0 ||
            element.offset + std::size_t{element.length_bytes} > layout.page_bytes ||
            (element.flags & ~PageElement::known_flags) != 0 || ((element.flags & first_only) != 0 && !first) ||
            (element.flags & first_only) == first_only ||
            (element.has(PageElement::Flag::header) && layout.headers_offset == 0)) {
            this->break_ring(Violation::element_out_of_bounds);
            return false;
        }
        Place& place = places_[element.page];
        if (place.state != Place::State::with_device) {
            this->break_ring(Violation::page_given_twice);
            return false;
        }
        place = {element.offset, 0, element.length_bytes, Place::State::held};
        ++held_;
        return true;
    }

    const PageRegion& region_;
    const std::uint16_t most_parts_;
    std::vector<Place> places_;
    std::array<LentFrame, most_frames_per_burst> frames_;
    std::size_t held_ = 0;
};

}  // namespace vitrine::guest
