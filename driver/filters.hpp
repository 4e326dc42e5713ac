#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "driver/mailbox_messages.hpp"

namespace vitrine::driver {

/// Which frames the operator wants beside those to our address and broadcast.
struct FilterRequest {
    // NOLINTBEGIN(readability-redundant-member-init): so that an initializer may leave a member out
    std::vector<std::uint16_t> vlans = {};
    bool promiscuous = false;             ///< needs a trusting PF
    bool all_multicast = true;            ///< needs a trusting PF
    std::vector<MacAddress> groups = {};  ///< when there is neither of these
    // NOLINTEND(readability-redundant-member-init)
};

/// What the PF granted of it.
struct FilterGrant {
    ReceiveMode mode = ReceiveMode::none;
    std::vector<std::uint16_t> hashes;  ///< in force when `mode` is multicast_hashes
    std::size_t groups_left_out = 0;    ///< beyond the 30 hashes that fit
    std::vector<std::uint16_t> vlans_refused;
};

/// Hashes for a VF without all-multicast: IPv6 all-nodes, the solicited-node group of `mac`, IPv4 all-systems, then
/// `groups` as far as they fit. Sorted by importance, none twice.
std::vector<std::uint16_t> multicast_hashes(const MacAddress& mac, const std::vector<MacAddress>& groups,
                                            MulticastFilter filter, std::size_t& groups_left_out);

/// A locally administered unicast address that is always the same for the same seed. The seed must differ between
/// machines (put the machine's id in it), else two of them share an address.
MacAddress local_address(std::string_view seed);

/// Unicast and not zero.
constexpr bool is_station_address(const MacAddress& address) {
    return (address[0] & 1) == 0 && address != MacAddress{};
}

}  // namespace vitrine::driver
