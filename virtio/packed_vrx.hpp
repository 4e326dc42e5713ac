#pragma once

#include <cstdint>

#include "virtio/packed_ring.hpp"
#include "virtio/vrx.hpp"

/// VRX 1 on packed rings: layouts, for device and driver side (docs/vrx.md, 9).
namespace vitrine::virtio::vrx {

/// The first descriptor that a driver makes available (9.1).
struct PackedMarker {
    static constexpr std::uint16_t id = 0xfffe;

    static constexpr PackedDescriptor of(std::uint32_t region_tag, std::uint16_t most_pages_of_frame) {
        return {.address = Marker::magic | region_tag,
                .length_bytes = static_cast<std::uint32_t>(Mode::pages) | Marker::version << 8 |
                                std::uint32_t{most_pages_of_frame} << 16,
                .id = id,
                .flags = PackedDescriptor::device_writes};
    }
};

/// Slots that a driver keeps back for returns (9.2).
constexpr std::uint32_t reserved_slots(std::uint32_t most_pages_of_frame) {
    return (most_pages_of_frame + 3) / 4;
}

/// The four returned pages in `address` of an available descriptor.
inline constexpr unsigned returns_per_descriptor = 4;
inline constexpr std::uint16_t no_page = 0xffff;
inline constexpr std::uint64_t no_returns = ~std::uint64_t{0};
constexpr std::uint16_t returned_page(std::uint64_t address, unsigned index) {
    return static_cast<std::uint16_t>(address >> (16 * index));
}

/// What a used descriptor says of a page besides its id and length, in `address`.
struct PackedUsed {
    static constexpr std::uint32_t next = 1;
    static constexpr std::uint32_t header = 2;
    static constexpr std::uint32_t checksum_ok = 4;
    static constexpr std::uint64_t address_of(std::uint32_t offset, std::uint32_t flags) {
        return offset | std::uint64_t{flags} << 16;
    }
};
static_assert(UsedPage{UsedPage::next}.packed_flags() == PackedUsed::next &&
              UsedPage{UsedPage::header}.packed_flags() == PackedUsed::header &&
              UsedPage{UsedPage::checksum_ok}.packed_flags() == PackedUsed::checksum_ok);

}  // namespace vitrine::virtio::vrx
