#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "mem/page_ledger.hpp"
#include "virtio/packed_device_ring.hpp"
#include "virtio/packed_vrx.hpp"
#include "virtio/vrx_start.hpp"

namespace vitrine::virtio {

/// How pages go out and come back over a packed ring (docs/vrx.md, 9), with the members of LendingRing: each available
/// descriptor is a credit and returns up to four pages. It is a credit once its returns were read.
class PackedLendingRing : public PackedDeviceRing {
public:
    static constexpr bool outlives_process = false;

    /// `read`: how many of the chains that wait are credits already.
    PackedLendingRing(PackedDeviceRing ring, std::uint16_t most_pages_of_frame, std::uint16_t read = 0) noexcept
        : PackedDeviceRing(std::move(ring)),
          most_pages_of_frame_(most_pages_of_frame),
          read_(static_cast<std::uint16_t>(next() + read)) {}

    std::size_t most_pages_of_frame() const { return most_pages_of_frame_; }
    /// Answers the marker, which waits.
    void grant() noexcept {
        answer_marker(*this, vrx::Answer::granted(vrx::Mode::pages));
        read_ = next();
    }

    std::size_t credits(std::size_t /*wanted*/) const noexcept {
        return broken() ? 0 : static_cast<std::uint16_t>(read_ - next());
    }
    void put_page(vrx::UsedPage element) noexcept {
        give_back(element.page(), element.length_bytes(),
                  vrx::PackedUsed::address_of(element.offset(), element.packed_flags()));
    }

    template <class Visit>
    std::size_t read_returns(std::size_t most, Visit visit) noexcept {
        std::size_t count = 0;
        for (; count + vrx::returns_per_descriptor <= most; count += vrx::returns_per_descriptor) {
            const auto read = static_cast<std::uint16_t>(read_ - next());
            if (waiting(static_cast<std::uint16_t>(read + 1)) <= read) break;
            std::uint16_t id = 0;
            const std::optional<Descriptor> descriptor = single(read_, id);
            if (!descriptor || !(descriptor->flags & Descriptor::device_writes) || descriptor->length_bytes != 0) {
                break_ring();
                break;
            }
            ++read_;
            for (unsigned i = 0; i < vrx::returns_per_descriptor; ++i) {
                const std::uint16_t page = vrx::returned_page(descriptor->address, i);
                if (page != vrx::no_page) visit(page);
            }
        }
        return count;
    }
    // A death of the process breaks the ring, so there is nothing to remember for another.
    void remember_returns(mem::PageLedger&, unsigned) noexcept {}
    void resume_returns(const mem::PageLedger&, unsigned) noexcept {}
    template <class Steps>
    void write_journal(mem::PageLedger&, unsigned, std::span<const mem::PageId>, Steps&) noexcept {}

    /// Credits are used or not, but their returns were read for good.
    std::uint32_t base() const { return base_after(read_); }

private:
    std::uint16_t most_pages_of_frame_;
    std::uint16_t read_;  ///< position of the first chain whose returns were not read
};

}  // namespace vitrine::virtio
