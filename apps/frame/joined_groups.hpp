#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vitrine::apps {

using GroupAddress = std::array<std::uint8_t, 6>;  ///< Ethernet multicast address

/// The Ethernet groups that the sender of this frame says it listens to: IGMP reports (RFC 1112, 2236, 3376), MLD
/// reports (RFC 2710, 3810), and the solicited-node groups of addresses that neighbour discovery shows to be its own
/// (RFC 4861, 4862). The frame is a guest's: whatever it holds, nothing outside it is read. One 802.1Q tag is looked
/// behind. Returns how many were written to `groups`; what does not fit is left out, hosts repeat their reports.
std::size_t joined_groups(std::span<const std::byte> frame, std::span<GroupAddress> groups) noexcept;

}  // namespace vitrine::apps
