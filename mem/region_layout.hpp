#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

/// The region that the guest reads: info page, header table, packet pages (docs/vrx.md, section 2). For both sides.
namespace vitrine::mem {

/// What the device says of the region, at its start. The device writes it and never reads it back.
struct InfoPage {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t info_bytes;
    std::uint32_t modes;
    std::uint32_t header_stride;
    std::array<std::uint8_t, 6> mac;
    std::uint16_t queue_pairs;
    std::array<std::uint8_t, 16> instance;
    std::uint32_t page_bytes;
    std::uint32_t page_count;
    std::uint64_t pages_offset;
    std::uint64_t headers_offset;
    std::uint32_t held_limit;
    std::array<std::uint32_t, 15> reserved;
    std::array<std::uint32_t, 128> generation;

    static constexpr std::uint32_t magic_number = 0x31585256;  // "VRX1"
    static constexpr std::uint16_t version_number = 1;
    static constexpr std::uint32_t offers_offset = 1u << 0;
    static constexpr std::uint32_t offers_pages = 1u << 1;
    static constexpr std::uint32_t offers_packed_pages = 1u << 2;
    static constexpr std::uint32_t has_header_table = 1u << 3;
};
static_assert(sizeof(InfoPage) == 640 && offsetof(InfoPage, mac) == 16 && offsetof(InfoPage, instance) == 24 &&
              offsetof(InfoPage, page_bytes) == 40 && offsetof(InfoPage, pages_offset) == 48 &&
              offsetof(InfoPage, held_limit) == 64 && offsetof(InfoPage, generation) == 128);
static_assert(std::endian::native == std::endian::little);

inline constexpr std::size_t info_page_bytes = 4096;
inline constexpr std::size_t header_slot_bytes = 32;
inline constexpr std::size_t most_region_pages = 65535;

/// The part of the instance that a driver's marker repeats.
constexpr std::uint32_t region_tag(const std::array<std::uint8_t, 16>& instance) {
    return instance[0] | instance[1] << 8 | instance[2] << 16 | static_cast<std::uint32_t>(instance[3]) << 24;
}

/// Where things lie in a region.
struct RegionLayout {
    std::size_t region_bytes = 0;
    std::size_t headers_offset = info_page_bytes;
    std::size_t pages_offset = 0;
    std::size_t page_bytes = 0;
    std::size_t page_count = 0;

    bool operator==(const RegionLayout&) const = default;
};

/// A region of `wanted` pages or more. Its size is a power of two and filled up with pages. The packet pages begin at a
/// border of the file's own pages, so that they can be mapped for the NIC without the rest.
constexpr RegionLayout region_layout(std::size_t wanted, std::size_t page_bytes, std::size_t file_page_bytes) {
    const std::size_t granule = file_page_bytes > page_bytes ? file_page_bytes : page_bytes;
    const auto pages_offset = [granule](std::size_t pages) {
        return (info_page_bytes + header_slot_bytes * pages + granule - 1) / granule * granule;
    };
    RegionLayout layout{.page_bytes = page_bytes};
    if (wanted > most_region_pages) wanted = most_region_pages;
    layout.region_bytes = std::bit_ceil(pages_offset(wanted) + wanted * page_bytes);
    layout.page_count = (layout.region_bytes - pages_offset(wanted)) / page_bytes;
    if (layout.page_count > most_region_pages) layout.page_count = most_region_pages;
    while (pages_offset(layout.page_count) + layout.page_count * page_bytes > layout.region_bytes) --layout.page_count;
    layout.pages_offset = pages_offset(layout.page_count);
    return layout;
}

/// What a driver must check before it believes a region (2.2): the layout, or what is wrong. Give it a copy of the
/// info page, which could change.
constexpr std::expected<RegionLayout, std::string_view> check_region(const InfoPage& info, std::size_t region_bytes) {
    if (info.magic != InfoPage::magic_number) return std::unexpected("no magic");
    if (info.version != InfoPage::version_number) return std::unexpected("unknown version");
    if (info.info_bytes < sizeof(InfoPage)) return std::unexpected("short info page");
    if (info.queue_pairs == 0 || info.queue_pairs > info.generation.size()) return std::unexpected("queue pairs");
    if (!std::has_single_bit(info.page_bytes) || info.page_bytes < 2048 || info.page_bytes > 65536)
        return std::unexpected("page size");
    if (info.page_count == 0 || info.page_count > most_region_pages) return std::unexpected("page count");
    const std::uint64_t pages_bytes = std::uint64_t{info.page_bytes} * info.page_count;
    const auto inside = [&](std::uint64_t offset, std::uint64_t bytes) {
        return offset >= info_page_bytes && offset <= region_bytes && bytes <= region_bytes - offset;
    };
    if (info.pages_offset % info_page_bytes != 0 || info.pages_offset % info.page_bytes != 0 ||
        !inside(info.pages_offset, pages_bytes))
        return std::unexpected("pages outside the region");
    if (info.headers_offset != 0) {
        const std::uint64_t headers_bytes = header_slot_bytes * info.page_count;
        const bool apart = info.headers_offset + headers_bytes <= info.pages_offset ||
                           info.headers_offset >= info.pages_offset + pages_bytes;
        if (info.header_stride != header_slot_bytes || !inside(info.headers_offset, headers_bytes) || !apart)
            return std::unexpected("header table outside its place");
    }
    return RegionLayout{.region_bytes = region_bytes,
                        .headers_offset = info.headers_offset,
                        .pages_offset = info.pages_offset,
                        .page_bytes = info.page_bytes,
                        .page_count = info.page_count};
}

}  // namespace vitrine::mem
