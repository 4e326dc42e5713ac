#pragma once

#include <compare>
#include <cstdint>

namespace vitrine::mem {

/// An address that cannot be mistaken for one of another space. `Space` is a tag only.
template <class Space>
struct Address {
    std::uint64_t raw = 0;

    friend constexpr auto operator<=>(Address, Address) = default;
    friend constexpr Address operator+(Address base, std::uint64_t bytes) { return {base.raw + bytes}; }
    /// Distance in bytes; wraps when `low` is above `high`, as unsigned arithmetic does.
    friend constexpr std::uint64_t operator-(Address high, Address low) { return high.raw - low.raw; }
};

/// What the NIC puts on the bus: translated by the IOMMU. Never 0 for a buffer (82599 data sheet, 7.1.5).
using Iova = Address<struct IovaTag>;
/// What the guest calls physical: the addresses in descriptors.
using GuestPhys = Address<struct GuestPhysTag>;
/// What the front-end calls its own: vhost-user ring addresses are of this kind.
using FrontendVirtual = Address<struct FrontendVirtualTag>;

/// Index of a packet page in its pool; never an address.
enum class PageId : std::uint32_t {};

constexpr std::uint32_t index_of(PageId page) {
    return static_cast<std::uint32_t>(page);
}

}  // namespace vitrine::mem
