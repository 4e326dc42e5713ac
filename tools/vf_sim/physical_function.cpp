#include "tools/vf_sim/physical_function.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::uint32_t frame_overhead = 18;  // header and CRC
constexpr std::uint32_t standard_frame = 1500 + frame_overhead;
constexpr std::size_t most_further_addresses = 15;
/// The key of the examples in the RSS specification, so that hashes can be compared with published ones.
constexpr std::array<std::uint8_t, Rss::key_bytes> published_key{
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

MessageHead head(const MailboxWords& message) {
    return MessageHead{{message[0]}};
}

EthernetAddress address_in(const MailboxWords& message) {
    EthernetAddress address;
    std::memcpy(address.data(), &message[1], address.size());
    return address;
}

bool valid_unicast(const EthernetAddress& address) {
    return (address[0] & 1) == 0 && address != EthernetAddress{};
}

}  // namespace

PhysicalFunction::PhysicalFunction(const Policy& policy, std::shared_ptr<Port> port)
    : policy_(policy),
      filter_(policy.multicast_filter_type),
      spoof_check_(policy.spoof_check),
      port_(port ? std::move(port) : std::make_shared<Port>()) {
    rss_.enabled = true;
    rss_.types = Rss::tcp_ipv4 | Rss::ipv4 | Rss::tcp_ipv6 | Rss::ipv6;
    if (policy.rss_udp) rss_.types |= Rss::udp_ipv4 | Rss::udp_ipv6;
    rss_.key = published_key;
    for (std::size_t i = 0; i < rss_.table.size(); ++i) rss_.table[i] = static_cast<std::uint8_t>(i % 4);
    reset();
}

void PhysicalFunction::forget_vf() {
    clear_to_send_ = started_ = receive_allowed_ = longest_frame_told_ = false;
    api_ = MailboxApi::v1_0;
    filter_.reset();
}

void PhysicalFunction::reset() {
    forget_vf();
    spoof_check_ = policy_.spoof_check;
    port_->longest_frame_bytes = policy_.mtu_bytes + frame_overhead;
    address_ = policy_.mac.value_or(EthernetAddress{});
    filter_.clear_address();
    filter_.set_port_vlan(policy_.port_vlan);
}

// LINUX: the new address is in the filters at once, and the VF's driver hears of it at its next reset.
void PhysicalFunction::set_mac(std::optional<EthernetAddress> mac) {
    policy_.mac = mac;
    address_ = mac.value_or(EthernetAddress{});
    if (mac && started_)
        filter_.set_address(*mac);
    else
        filter_.clear_address();
}

void PhysicalFunction::set_port_vlan(std::uint16_t vlan) {
    policy_.port_vlan = vlan;
    filter_.set_port_vlan(vlan);
}

bool PhysicalFunction::answer(MailboxWords& message) {
    const MessageHead request = head(message);
    if (request.get(MessageHead::success) != 0 || request.get(MessageHead::failure) != 0) return false;
    const bool is_reset = request.get(MessageHead::type) == static_cast<std::uint32_t>(MessageType::reset);
    const bool granted = is_reset ? reset_vf(message) : clear_to_send_ && handle(message);
    // The answer to RESET is the bare type with success or failure: drivers compare all of the word.
    const MessageHead reply =
        is_reset ? head_of(MessageType::reset) : request.with(MessageHead::clear_to_send, clear_to_send_);
    message[0] = (granted ? reply.with(MessageHead::success, 1) : reply.with(MessageHead::failure, 1)).raw;
    return true;
}

bool PhysicalFunction::reset_vf(MailboxWords& message) {
    forget_vf();
    clear_to_send_ = started_ = true;
    // 82599: its RLPML cannot keep long frames away from a VF, so with a jumbo PF receive waits for SET_LPE.
    receive_allowed_ = policy_.part != Part::i82599 || !jumbo();
    const bool has_address = address_ != EthernetAddress{};
    if (has_address) filter_.set_address(address_);
    message = {};
    std::memcpy(&message[1], address_.data(), address_.size());
    message[3] = policy_.multicast_filter_type;
    return has_address && policy_.mac.has_value();
}

bool PhysicalFunction::handle(MailboxWords& message) {
    switch (static_cast<MessageType>(head(message).get(MessageHead::type))) {
        case MessageType::set_mac_address:
            return set_address(message);
        case MessageType::set_multicast:
            return set_multicast(message);
        case MessageType::set_vlan:
            return set_vlan(message);
        case MessageType::set_longest_frame:
            return set_longest_frame(message[1]);
        case MessageType::set_mac_vlan:
            return set_further_address(message);
        case MessageType::negotiate_api:
            return negotiate(message[1]);
        case MessageType::get_queues:
            return get_queues(message);
        case MessageType::get_rss_table:
        case MessageType::get_rss_key:
            return get_rss(message);
        case MessageType::update_receive_mode:
            return update_mode(message);
        case MessageType::get_link_state:
            if (api_ < MailboxApi::v1_2) return false;
            message[1] = policy_.link_state != LinkState::disabled;
            return true;
        case MessageType::add_ipsec:
            message[1] = static_cast<std::uint32_t>(-EACCES);  // LINUX: a PF whose administrator did not allow IPsec
            return false;
        default:
            return false;
    }
}

bool PhysicalFunction::set_address(const MailboxWords& message) {
    const EthernetAddress wanted = address_in(message);
    if (!valid_unicast(wanted)) return false;
    if (policy_.mac && !policy_.trusted && wanted != address_) return false;
    address_ = wanted;
    filter_.set_address(wanted);
    return true;
}

bool PhysicalFunction::set_multicast(const MailboxWords& message) {
    const std::size_t count = std::min<std::size_t>(head(message).get(MessageHead::info), most_multicast_hashes);
    std::array<std::uint16_t, most_multicast_hashes> hashes;
    std::memcpy(hashes.data(), &message[1], count * sizeof(std::uint16_t));
    filter_.set_multicast_hashes(std::span(hashes).first(count));
    return true;
}

bool PhysicalFunction::set_vlan(const MailboxWords& message) {
    const bool add = head(message).get(MessageHead::info) != 0;
    const auto vlan = static_cast<std::uint16_t>(message[1] & 0xfff);
    if (policy_.port_vlan != 0) return false;
    if (!add && vlan == 0) return true;  // VLAN 0 stays, by definition
    if (add && !policy_.vlans[vlan]) return false;
    filter_.set_vlan(vlan, add);
    return true;
}

bool PhysicalFunction::set_longest_frame(std::uint32_t bytes) {
    if (bytes < 68 || bytes > 9728) return false;
    if (policy_.part == Part::i82599) {
        const bool jumbo_pair = api_ >= MailboxApi::v1_1 && jumbo();
        receive_allowed_ = jumbo_pair || (!jumbo() && bytes <= standard_frame);
        if (!receive_allowed_) return false;
    }
    longest_frame_told_ = true;
    port_->longest_frame_bytes = std::max(port_->longest_frame_bytes, bytes);  // one for the port; never lowered
    return true;
}

bool PhysicalFunction::set_further_address(const MailboxWords& message) {
    const std::uint32_t index = head(message).get(MessageHead::info);
    if (index > 0 && policy_.mac && !policy_.trusted) return false;
    if (index <= 1) filter_.clear_further();
    if (index == 0) return true;
    const EthernetAddress address = address_in(message);
    if (!valid_unicast(address) || filter_.further() == most_further_addresses) return false;
    filter_.add_address(address);
    spoof_check_ = false;  // LINUX: otherwise the VF could not send from these addresses
    return true;
}

bool PhysicalFunction::negotiate(std::uint32_t version) {
    const bool known = version == static_cast<std::uint32_t>(MailboxApi::v1_0) ||
                       (version >= static_cast<std::uint32_t>(MailboxApi::v1_1) &&
                        version <= static_cast<std::uint32_t>(MailboxApi::v1_4));
    if (!known || version > static_cast<std::uint32_t>(policy_.api_ceiling)) return false;
    api_ = static_cast<MailboxApi>(version);
    return true;
}

bool PhysicalFunction::get_queues(MailboxWords& message) const {
    if (api_ < MailboxApi::v1_1) return false;
    message[1] = message[2] = policy_.queues;
    message[3] = policy_.port_vlan != 0;  // or the number of traffic classes, of which there are none
    message[4] = 0;
    return true;
}

bool PhysicalFunction::get_rss(MailboxWords& message) const {
    if (api_ < MailboxApi::v1_2 || !policy_.rss_query || policy_.part == Part::x550) return false;
    const bool table = head(message).get(MessageHead::type) == static_cast<std::uint32_t>(MessageType::get_rss_table);
    if (!table) {
        std::memcpy(&message[1], rss_.key.data(), rss_.key.size());
        return true;
    }
    std::fill_n(message.begin() + 1, 8, 0);
    for (std::size_t i = 0; i < rss_.table.size(); ++i)
        message[1 + i / 16] |= std::uint32_t{rss_.table[i]} << (2 * (i % 16));
    return true;
}

bool PhysicalFunction::update_mode(MailboxWords& message) {
    if (api_ < MailboxApi::v1_2 || message[1] > static_cast<std::uint32_t>(ReceiveMode::promiscuous)) return false;
    auto mode = static_cast<ReceiveMode>(message[1]);
    if (mode == ReceiveMode::promiscuous && api_ < MailboxApi::v1_3) return false;
    if (!policy_.trusted) mode = std::min(mode, ReceiveMode::multicast_hashes);
    // LINUX: the 82599 has no unicast promiscuous mode for a pool, and elsewhere the PF must be promiscuous itself.
    if (mode == ReceiveMode::promiscuous && (policy_.part == Part::i82599 || !policy_.promiscuous)) return false;
    filter_.set_mode(mode);
    message[1] = static_cast<std::uint32_t>(mode);
    return true;
}

}  // namespace vitrine::vf_sim
