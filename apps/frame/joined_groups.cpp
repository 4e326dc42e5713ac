#include "apps/frame/joined_groups.hpp"

#include <algorithm>

namespace vitrine::apps {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t address_pair_bytes = 12, tag_bytes = 4, type_bytes = 2;
constexpr std::size_t ipv4_address_bytes = 4, ipv6_address_bytes = 16;
constexpr std::uint16_t type_vlan = 0x8100, type_ipv4 = 0x0800, type_ipv6 = 0x86dd;
constexpr std::uint8_t protocol_hop_by_hop = 0, protocol_igmp = 2, protocol_icmpv6 = 58;

/// 0 behind the end: no message that counts here has a meaning for it.
std::uint8_t byte_at(Bytes bytes, std::size_t offset) {
    return offset < bytes.size() ? static_cast<std::uint8_t>(bytes[offset]) : 0;
}

std::uint16_t word_at(Bytes bytes, std::size_t offset) {
    return static_cast<std::uint16_t>(byte_at(bytes, offset) << 8 | byte_at(bytes, offset + 1));
}

Bytes behind(Bytes bytes, std::size_t offset) {
    return bytes.subspan(std::min(offset, bytes.size()));
}

class Groups {
public:
    explicit Groups(std::span<GroupAddress> found) : found_(found) {}

    /// RFC 1112, 6.4: the low 23 bits.
    void add_ipv4(Bytes group) {
        if (group.size() < ipv4_address_bytes || (byte_at(group, 0) & 0xf0) != 0xe0) return;
        add({0x01, 0x00, 0x5e, static_cast<std::uint8_t>(byte_at(group, 1) & 0x7f), byte_at(group, 2),
             byte_at(group, 3)});
    }
    /// RFC 2464, 7: the low 32 bits.
    void add_ipv6(Bytes group) {
        if (group.size() < ipv6_address_bytes || byte_at(group, 0) != 0xff) return;
        add({0x33, 0x33, byte_at(group, 12), byte_at(group, 13), byte_at(group, 14), byte_at(group, 15)});
    }
    /// RFC 4291, 2.7.1: ff02::1:ff00:0/104 and the low 24 bits of a unicast address.
    void add_solicited_node(Bytes address) {
        if (address.size() < ipv6_address_bytes || byte_at(address, 0) == 0xff) return;
        add({0x33, 0x33, 0xff, byte_at(address, 13), byte_at(address, 14), byte_at(address, 15)});
    }
    bool full() const { return count_ == found_.size(); }
    std::size_t count() const { return count_; }

private:
    void add(const GroupAddress& group) {
        if (!full()) found_[count_++] = group;
    }

    std::span<GroupAddress> found_;
    std::size_t count_ = 0;
};

/// The records of an IGMPv3 or MLDv2 report differ in the size of an address alone (RFC 3376, 4.2; RFC 3810, 5.2).
template <class Add>
void add_records(Bytes report, std::size_t address_bytes, const Groups& groups, Add add) {
    constexpr std::size_t count_at = 6, records_at = 8, head_bytes = 4;
    constexpr std::uint8_t mode_is_exclude = 2, change_to_exclude = 4, block_old_sources = 6;
    Bytes rest = behind(report, records_at);
    for (unsigned left = word_at(report, count_at); left > 0 && !rest.empty() && !groups.full(); --left) {
        const std::uint8_t type = byte_at(rest, 0);
        const std::size_t auxiliary_bytes = 4u * byte_at(rest, 1), sources = word_at(rest, 2);
        // To include no source is to leave.
        const bool all_but_some = type == mode_is_exclude || type == change_to_exclude;
        if (all_but_some || (sources > 0 && type < block_old_sources)) add(behind(rest, head_bytes));
        rest = behind(rest, head_bytes + address_bytes * (1 + sources) + auxiliary_bytes);
    }
}

void read_igmp(Bytes message, Groups& groups) {
    constexpr std::uint8_t report_1 = 0x12, report_2 = 0x16, report_3 = 0x22;
    constexpr std::size_t group_at = 4;
    switch (byte_at(message, 0)) {
        case report_1:
        case report_2:
            return groups.add_ipv4(behind(message, group_at));
        case report_3:
            return add_records(message, ipv4_address_bytes, groups, [&](Bytes group) { groups.add_ipv4(group); });
        default:
            return;
    }
}

void read_icmpv6(Bytes message, Bytes source, Groups& groups) {
    constexpr std::uint8_t report_1 = 131, solicitation = 135, advertisement = 136, report_2 = 143;
    constexpr std::size_t address_at = 8;
    switch (byte_at(message, 0)) {
        case report_1:
            return groups.add_ipv6(behind(message, address_at));
        case report_2:
            return add_records(message, ipv6_address_bytes, groups, [&](Bytes group) { groups.add_ipv6(group); });
        case solicitation:
            // RFC 4862, 5.4.2: who asks from nowhere for an address wants it for itself.
            if (std::ranges::all_of(source, [](std::byte byte) { return byte == std::byte{0}; }))
                groups.add_solicited_node(behind(message, address_at));
            return;
        case advertisement:
            return groups.add_solicited_node(behind(message, address_at));
        default:
            return;
    }
}

void read_ipv4(Bytes packet, Groups& groups) {
    constexpr std::size_t fragment_at = 6, protocol_at = 9;
    constexpr std::uint16_t fragment_bits = 0x3fff;  // more fragments, and the offset
    const std::size_t header_bytes = (byte_at(packet, 0) & 0xf) * 4u;
    if (byte_at(packet, protocol_at) != protocol_igmp || (word_at(packet, fragment_at) & fragment_bits) != 0) return;
    read_igmp(behind(packet, header_bytes), groups);
}

void read_ipv6(Bytes packet, Groups& groups) {
    constexpr std::size_t next_at = 6, source_at = 8, header_bytes = 40;
    if (packet.size() < header_bytes) return;
    std::uint8_t next = byte_at(packet, next_at);
    Bytes rest = behind(packet, header_bytes);
    if (next == protocol_hop_by_hop) {  // where MLD's router alert is (RFC 2710, 3)
        next = byte_at(rest, 0);
        rest = behind(rest, 8u * (1 + byte_at(rest, 1)));
    }
    if (next == protocol_icmpv6) read_icmpv6(rest, packet.subspan(source_at, ipv6_address_bytes), groups);
}

}  // namespace

std::size_t joined_groups(std::span<const std::byte> frame, std::span<GroupAddress> groups) noexcept {
    Groups found(groups);
    Bytes rest = behind(frame, address_pair_bytes);
    if (word_at(rest, 0) == type_vlan) rest = behind(rest, tag_bytes);
    const std::uint16_t type = word_at(rest, 0);
    if (type == type_ipv4) read_ipv4(behind(rest, type_bytes), found);
    if (type == type_ipv6) read_ipv6(behind(rest, type_bytes), found);
    return found.count();
}

}  // namespace vitrine::apps
