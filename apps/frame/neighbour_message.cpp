#include "apps/frame/neighbour_message.hpp"

#include <algorithm>

namespace vitrine::apps {
namespace {

using Bytes = std::span<const std::byte>;

constexpr MacAddress broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::size_t mac_bytes = 6;

/// Type, and what is behind it and behind a priority tag. Empty: too short, or of some VLAN.
Bytes payload_of(Bytes frame, std::uint16_t wanted_type) {
    if (frame.size() < ethernet_header_bytes + vlan_tag_bytes) return {};
    std::size_t at = ethernet_header_bytes;
    std::uint16_t type = load16(&frame[12]);
    if (type == type_vlan) {
        if ((load16(&frame[at]) & 0x0fff) != 0) return {};
        type = load16(&frame[at + 2]);
        at += vlan_tag_bytes;
    }
    return type == wanted_type ? frame.subspan(at) : Bytes{};
}

NeighbourFrame begin_frame(const MacAddress& to, const MacAddress& from, std::uint16_t type,
                           std::size_t payload_bytes) {
    NeighbourFrame frame;
    store_mac(&frame.bytes[0], to);
    store_mac(&frame.bytes[mac_bytes], from);
    store16(&frame.bytes[12], type);
    frame.length_bytes = ethernet_header_bytes + payload_bytes;
    return frame;
}

// ARP for IPv4 on Ethernet (RFC 826): 8 bytes that say so and what is meant, then both addresses of sender and target.

namespace arp {

constexpr std::size_t packet_bytes = 28, operation_at = 6, sender_mac_at = 8, sender_at = 14, target_mac_at = 18,
                      target_at = 24;
constexpr std::uint64_t ethernet_and_ipv4 = 0x0001'0800'0604;
constexpr std::uint16_t request = 1, reply = 2;

NeighbourFrame make(std::uint16_t operation, const MacAddress& to, const NeighbourPlace& place,
                    const MacAddress& target_mac, const std::byte* target) {
    NeighbourFrame frame = begin_frame(to, place.own, type_arp, packet_bytes);
    std::byte* const packet = &frame.bytes[ethernet_header_bytes];
    store32(packet, ethernet_and_ipv4 >> 16);
    store16(packet + 4, ethernet_and_ipv4 & 0xffff);
    store16(packet + operation_at, operation);
    store_mac(packet + sender_mac_at, place.own);
    place.local.store(packet + sender_at);
    store_mac(packet + target_mac_at, target_mac);
    std::memcpy(packet + target_at, target, place.local.size());
    return frame;
}

NeighbourNews read(Bytes packet, const NeighbourPlace& place) {
    NeighbourNews news;
    if (packet.size() < packet_bytes ||
        (std::uint64_t{load32(packet.data())} << 16 | load16(&packet[4])) != ethernet_and_ipv4)
        return news;
    const std::uint16_t operation = load16(&packet[operation_at]);
    const MacAddress sender_mac = load_mac(&packet[sender_mac_at]);
    if ((operation != request && operation != reply) || !is_station(sender_mac) || sender_mac == place.own) return news;
    // "Merge_flag": whatever is said, and to whom, its sender's addresses belong together.
    if (place.sought.equals(&packet[sender_at])) {
        news.address = sender_mac;
        news.overrides = true;
    }
    if (operation == request && place.local.equals(&packet[target_at]))
        news.answer = make(reply, sender_mac, place, sender_mac, &packet[sender_at]);
    news.concerns_us = news.address || news.answer;
    return news;
}

}  // namespace arp

// Neighbour discovery (RFC 4861): an ICMPv6 message in an IPv6 packet whose hop limit shows that no router passed it
// on.

namespace nd {

constexpr std::uint8_t solicitation = 135, advertisement = 136, source_address = 1, target_address = 2;
constexpr std::uint8_t local_hop_limit = 255;
constexpr std::uint8_t solicited = 0x40, override_flag = 0x20;
constexpr std::size_t message_bytes = 24, option_bytes = 8, source_at = 8, destination_at = 24, target_at = 8;
constexpr std::size_t packet_bytes = ipv6_header_bytes + message_bytes + option_bytes;

/// Ends with the checksum; `destination` and flags are the caller's.
NeighbourFrame make(std::uint8_t type, std::uint8_t flags, const MacAddress& to, const NeighbourPlace& place,
                    const IpAddress& target, const IpAddress& destination) {
    NeighbourFrame frame = begin_frame(to, place.own, type_ipv6, packet_bytes);
    std::byte* const packet = &frame.bytes[ethernet_header_bytes];
    packet[0] = std::byte{0x60};
    store16(packet + 4, message_bytes + option_bytes);
    packet[6] = std::byte{protocol_icmpv6};
    packet[7] = std::byte{local_hop_limit};
    place.local.store(packet + source_at);
    destination.store(packet + destination_at);
    std::byte* const message = packet + ipv6_header_bytes;
    message[0] = std::byte{type};
    message[4] = std::byte{flags};
    target.store(message + target_at);
    std::byte* const option = message + message_bytes;
    option[0] = std::byte{type == solicitation ? source_address : target_address};
    option[1] = std::byte{1};
    store_mac(option + 2, place.own);
    const std::uint64_t pseudo =
        pseudo_header_sum({packet + source_at, 32}, protocol_icmpv6, message_bytes + option_bytes);
    store16(message + 2,
            static_cast<std::uint16_t>(~folded(add_to_sum(pseudo, {message, message_bytes + option_bytes}))));
    return frame;
}

IpAddress load_address(const std::byte* from) {
    IpAddress address{.v6 = true};
    std::memcpy(address.octets.data(), from, address.octets.size());
    return address;
}

/// RFC 4291, 2.7.1.
IpAddress solicited_node(const IpAddress& address) {
    IpAddress group{.octets = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}, .v6 = true};
    std::copy_n(address.octets.begin() + 13, 3, group.octets.begin() + 13);
    return group;
}

/// The link-layer address in an option of this kind. False: an option has no length, and the message is to be ignored.
bool read_options(Bytes options, std::uint8_t wanted, std::optional<MacAddress>& address) {
    while (!options.empty()) {
        if (options.size() < option_bytes || load8(&options[1]) == 0) return false;
        const std::size_t bytes = load8(&options[1]) * option_bytes;
        if (bytes > options.size()) return false;
        if (load8(options.data()) == wanted && bytes == option_bytes) address = load_mac(&options[2]);
        options = options.subspan(bytes);
    }
    return true;
}

NeighbourNews read_solicitation(Bytes packet, Bytes message, const MacAddress& sender, const NeighbourPlace& place) {
    NeighbourNews news;
    const IpAddress source = load_address(&packet[source_at]), destination = load_address(&packet[destination_at]);
    const bool from_nowhere = source.octets == std::array<std::uint8_t, 16>{};
    std::optional<MacAddress> address;
    if (!read_options(message.subspan(message_bytes), source_address, address)) return news;
    // 7.1.1: who has no address yet asks the group, and has none to tell.
    if (from_nowhere && (destination != solicited_node(load_address(&message[target_at])) || address)) return news;
    if (address && (!is_station(*address) || *address == place.own)) return news;
    if (source == place.sought && address) {
        news.address = address;
        news.overrides = true;
    }
    if (place.local.equals(&message[target_at])) {
        constexpr IpAddress all_nodes{.octets = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, .v6 = true};
        constexpr MacAddress all_nodes_group{0x33, 0x33, 0, 0, 0, 1};
        // 7.2.4: it is ours, says everybody who asks; nobody may take it.
        if (from_nowhere)
            news.answer = make(advertisement, override_flag, all_nodes_group, place, place.local, all_nodes);
        else if (const MacAddress to = address.value_or(sender); is_station(to) && source.octets[0] != 0xff)
            news.answer = make(advertisement, solicited | override_flag, to, place, place.local, source);
    }
    return news;
}

NeighbourNews read_advertisement(Bytes packet, Bytes message, const NeighbourPlace& place) {
    NeighbourNews news;
    const std::uint8_t flags = load8(&message[4]);
    const bool to_group = packet[destination_at] == std::byte{0xff};
    std::optional<MacAddress> address;
    if (!read_options(message.subspan(message_bytes), target_address, address)) return news;
    if (to_group && (flags & solicited) != 0) return news;  // 7.1.2
    if (!place.sought.equals(&message[target_at]) || !address || !is_station(*address) || *address == place.own)
        return news;
    news.address = address;
    news.overrides = (flags & override_flag) != 0;
    return news;
}

NeighbourNews read(Bytes packet, const MacAddress& sender, const NeighbourPlace& place) {
    if (packet.size() < ipv6_header_bytes + message_bytes) return {};
    const std::size_t payload_bytes = load16(&packet[4]);
    if (load8(packet.data()) >> 4 != 6 || load8(&packet[6]) != protocol_icmpv6 || payload_bytes < message_bytes ||
        payload_bytes > packet.size() - ipv6_header_bytes)
        return {};
    const Bytes message = packet.subspan(ipv6_header_bytes, payload_bytes);
    const std::uint8_t type = load8(message.data());
    if (type != solicitation && type != advertisement) return {};
    // 7.1: from this link, code 0, whole, and of an address that one host can have.
    if (load8(&packet[7]) != local_hop_limit || load8(&message[1]) != 0 || load8(&message[target_at]) == 0xff ||
        folded(add_to_sum(pseudo_header_sum(packet.subspan(source_at, 32), protocol_icmpv6, payload_bytes), message)) !=
            0xffff)
        return {};
    NeighbourNews news = type == solicitation ? read_solicitation(packet, message, sender, place)
                                              : read_advertisement(packet, message, place);
    news.concerns_us = news.address || news.answer;
    return news;
}

}  // namespace nd

}  // namespace

NeighbourNews read_neighbour(std::span<const std::byte> frame, const NeighbourPlace& place) noexcept {
    const Bytes packet = payload_of(frame, place.local.v6 ? type_ipv6 : type_arp);
    if (packet.empty()) return {};
    return place.local.v6 ? nd::read(packet, load_mac(&frame[mac_bytes]), place) : arp::read(packet, place);
}

NeighbourFrame neighbour_question(const NeighbourPlace& place, const std::optional<MacAddress>& known) noexcept {
    if (!place.local.v6) {
        std::array<std::byte, 4> target;
        place.sought.store(target.data());
        return arp::make(arp::request, known.value_or(broadcast), place, {}, target.data());
    }
    return nd::make(nd::solicitation, 0, known.value_or(solicited_node_group(place.sought)), place, place.sought,
                    known ? place.sought : nd::solicited_node(place.sought));
}

}  // namespace vitrine::apps
