#pragma once

#include <cstddef>
#include <cstdint>

#include "virtio/split_ring.hpp"

/// VRX 1: layouts on split rings, and what packed ones share, for device and driver side (docs/vrx.md, 3 and 4).
namespace vitrine::virtio::vrx {

/// Bit 58 of the feature bits, where a front-end passes it on (3.1).
inline constexpr std::uint64_t feature = std::uint64_t{1} << 58;

enum class Mode : std::uint8_t { standard = 0, offset = 2, pages = 3 };

/// Why a marker is not followed: the low half of the answer (3.4).
enum class Refusal : std::uint8_t {
    other = 0,
    not_offered = 1,
    unknown_version = 2,
    too_small = 3,
    other_region = 4,
    no_resources = 5,
};

/// What the device says to a marker, in used.flags (3.3).
struct Answer {
    std::uint8_t raw = 0;

    static constexpr std::uint16_t shift = 8;
    static constexpr Answer granted(Mode mode) { return {static_cast<std::uint8_t>(mode)}; }
    static constexpr Answer refused(Refusal why) {
        return {static_cast<std::uint8_t>(0xf0 | static_cast<std::uint8_t>(why))};
    }
    static constexpr Answer in(std::uint16_t used_flags) { return {static_cast<std::uint8_t>(used_flags >> shift)}; }
    constexpr bool none() const { return raw == 0; }
    constexpr bool is_refusal() const { return raw >= 0xf0; }
    constexpr Refusal refusal() const { return static_cast<Refusal>(raw & 0x0f); }
    constexpr bool operator==(const Answer&) const = default;
};
/// In used.flags: kick when you have returned pages (4.6).
inline constexpr std::uint16_t used_want_returns = 2;

/// The last descriptor of a ring whose driver wants VRX (3.2).
struct Marker {
    std::uint64_t magic_and_tag;
    std::uint32_t mode_and_version;
    std::uint32_t release_index;  ///< PAGES; with OFFSET the length of each buffer

    static constexpr std::uint64_t magic = 0xfffe'5856'0000'0000;
    static constexpr std::uint32_t version = 1;

    static constexpr Marker of(Mode mode, std::uint32_t region_tag, std::uint32_t buffer_bytes = 0) {
        return {magic | region_tag, static_cast<std::uint32_t>(mode) | version << 8, buffer_bytes};
    }
    constexpr bool has_magic() const { return (magic_and_tag & 0xffff'ffff'0000'0000) == magic; }
    constexpr std::uint32_t region_tag() const { return static_cast<std::uint32_t>(magic_and_tag); }
    constexpr bool operator==(const Marker&) const = default;
};
static_assert(sizeof(Marker) == sizeof(Descriptor) && offsetof(Marker, release_index) == 12);

constexpr std::size_t marker_offset(std::size_t entries) {
    return sizeof(Descriptor) * (entries - 1);
}
/// Page ids that the release ring holds; it lies at the start of the descriptor table (4.4).
constexpr std::uint32_t release_entries(std::uint32_t ring_entries) {
    return 4 * ring_entries;
}
static_assert(2 * release_entries(2) <= marker_offset(2), "the smallest ring's release ring ends before its marker");
inline constexpr std::uint16_t fewest_entries = 2;

/// One used element of a PAGES or OFFSET ring (4.1, 5): page or head, offset, length, and what is to be known of it.
struct UsedPage {
    std::uint64_t raw = 0;

    static constexpr std::uint64_t next = std::uint64_t{1} << 52;
    static constexpr std::uint64_t header = std::uint64_t{1} << 53;
    static constexpr std::uint64_t checksum_ok = std::uint64_t{1} << 54;
    static constexpr std::uint32_t most_bytes = (1u << 20) - 1;

    static constexpr UsedPage of(std::uint32_t page, std::uint32_t offset, std::uint32_t length_bytes,
                                 std::uint64_t flags = 0) {
        return {page | std::uint64_t{offset} << 16 | std::uint64_t{length_bytes} << 32 | flags};
    }
    constexpr std::uint16_t page() const { return static_cast<std::uint16_t>(raw); }
    constexpr std::uint16_t offset() const { return static_cast<std::uint16_t>(raw >> 16); }
    constexpr std::uint32_t length_bytes() const { return static_cast<std::uint32_t>(raw >> 32) & most_bytes; }
    constexpr bool has(std::uint64_t flag) const { return (raw & flag) != 0; }
    /// As a packed ring has them (9.3): NEXT, HEADER, CHECKSUM_OK from bit 0 on.
    constexpr std::uint32_t packed_flags() const { return static_cast<std::uint32_t>(raw >> 52) & 7; }
    /// 63:55 are zero.
    constexpr bool has_unknown_bits() const { return raw >> 55 != 0; }
};
static_assert(sizeof(UsedPage) == sizeof(UsedElement));

/// With OFFSET: a buffer holds what the NIC may write, behind room for a header (5).
inline constexpr std::uint32_t offset_room_bytes = 128;
inline constexpr std::uint32_t fewest_buffer_bytes = 2048 + offset_room_bytes;

}  // namespace vitrine::virtio::vrx
