#include "driver/filters.hpp"

#include <algorithm>

namespace vitrine::driver {

std::vector<std::uint16_t> multicast_hashes(const MacAddress& mac, const std::vector<MacAddress>& groups,
                                            MulticastFilter filter, std::size_t& groups_left_out) {
    const MacAddress all_nodes{0x33, 0x33, 0, 0, 0, 1};
    const MacAddress solicited_node{0x33, 0x33, 0xff, mac[3], mac[4], mac[5]};  // of the EUI-64 link-local address
    const MacAddress all_systems{0x01, 0x00, 0x5e, 0, 0, 1};

    std::vector<std::uint16_t> hashes;
    groups_left_out = 0;
    const auto add = [&](const MacAddress& group) {
        const std::uint16_t hash = multicast_hash(group, filter);
        if (std::ranges::find(hashes, hash) != hashes.end()) return;
        if (hashes.size() < most_multicast_hashes)
            hashes.push_back(hash);
        else
            ++groups_left_out;
    };
    add(all_nodes);
    add(solicited_node);
    add(all_systems);
    std::ranges::for_each(groups, add);
    return hashes;
}

MacAddress local_address(std::string_view seed) {
    std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a: the same in every build, unlike std::hash
    for (const char character : seed) hash = (hash ^ static_cast<unsigned char>(character)) * 0x100'0000'01b3;
    MacAddress address;
    for (std::size_t index = 0; index < address.size(); ++index)
        address[index] = static_cast<std::uint8_t>(hash >> (8 * index));
    address[0] = static_cast<std::uint8_t>((address[0] & 0xfc) | 0x02);  // locally administered, unicast
    return address;
}

}  // namespace vitrine::driver
