#include "virtio/session.hpp"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "virtio/features.hpp"

namespace vitrine::virtio {

namespace wire = vhost_user;

namespace {

using Counters = SessionCounters;

constexpr std::size_t number = sizeof(std::uint64_t);
constexpr std::uint64_t refused = 1;

/// IPv4 asks for no less (RFC 791).
constexpr std::uint64_t least_mtu = 68;

}  // namespace

const std::array<Session::Rule, 24> Session::rules = {{
    {wire::Request::get_features, "GET_FEATURES", &Session::get_features, 0, 0, 0, 0},
    {wire::Request::set_features, "SET_FEATURES", &Session::set_features, number, number, 0, 0},
    {wire::Request::set_owner, "SET_OWNER", &Session::set_owner, 0, 0, 0, 0},
    {wire::Request::reset_owner, "RESET_OWNER", &Session::reset_owner, 0, 0, 0, 0},
    {wire::Request::set_mem_table, "SET_MEM_TABLE", &Session::set_mem_table, sizeof(wire::MemoryTable),
     sizeof(wire::MemoryTable) + wire::most_table_regions * sizeof(wire::MemoryRegion), wire::most_table_regions, 0},
    {wire::Request::set_vring_num, "SET_VRING_NUM", &Session::set_vring_num, sizeof(wire::VringState),
     sizeof(wire::VringState), 0, 0},
    {wire::Request::set_vring_addr, "SET_VRING_ADDR", &Session::set_vring_addr, sizeof(wire::VringAddress),
     sizeof(wire::VringAddress), 0, 0},
    {wire::Request::set_vring_base, "SET_VRING_BASE", &Session::set_vring_base, sizeof(wire::VringState),
     sizeof(wire::VringState), 0, 0},
    {wire::Request::get_vring_base, "GET_VRING_BASE", &Session::get_vring_base, sizeof(wire::VringState),
     sizeof(wire::VringState), 0, 0},
    {wire::Request::set_vring_kick, "SET_VRING_KICK", &Session::set_vring_kick, number, number, 1, 0},
    {wire::Request::set_vring_call, "SET_VRING_CALL", &Session::set_vring_call, number, number, 1, 0},
    {wire::Request::set_vring_err, "SET_VRING_ERR", &Session::set_vring_err, number, number, 1, 0},
    {wire::Request::get_protocol_features, "GET_PROTOCOL_FEATURES", &Session::get_protocol_features, 0, 0, 0, 0},
    {wire::Request::set_protocol_features, "SET_PROTOCOL_FEATURES", &Session::set_protocol_features, number, number, 0,
     0},
    {wire::Request::get_queue_num, "GET_QUEUE_NUM", &Session::get_queue_num, 0, 0, 0, wire::protocol::mq},
    {wire::Request::set_vring_enable, "SET_VRING_ENABLE", &Session::set_vring_enable, sizeof(wire::VringState),
     sizeof(wire::VringState), 0, 0},
    {wire::Request::net_set_mtu, "NET_SET_MTU", &Session::net_set_mtu, number, number, 0, wire::protocol::net_mtu},
    {wire::Request::get_config, "GET_CONFIG", &Session::get_config, sizeof(wire::ConfigAccess),
     sizeof(wire::ConfigAccess) + wire::most_config_bytes, 0, wire::protocol::config},
    {wire::Request::reset_device, "RESET_DEVICE", &Session::reset_device, 0, 0, 0, wire::protocol::reset_device},
    {wire::Request::get_max_mem_slots, "GET_MAX_MEM_SLOTS", &Session::get_max_mem_slots, 0, 0, 0,
     wire::protocol::configure_mem_slots},
    {wire::Request::add_mem_reg, "ADD_MEM_REG", &Session::add_mem_reg, sizeof(wire::SingleRegion),
     sizeof(wire::SingleRegion), 1, wire::protocol::configure_mem_slots},
    {wire::Request::rem_mem_reg, "REM_MEM_REG", &Session::rem_mem_reg, sizeof(wire::SingleRegion),
     sizeof(wire::SingleRegion), 1, wire::protocol::configure_mem_slots},
    {wire::Request::set_status, "SET_STATUS", &Session::set_status, number, number, 0, wire::protocol::status},
    {wire::Request::get_status, "GET_STATUS", &Session::get_status, 0, 0, 0, wire::protocol::status},
}};

const Session::Rule* Session::find_rule(std::uint32_t request) {
    const auto found = std::ranges::find(rules, static_cast<wire::Request>(request), &Rule::request);
    return found == rules.end() ? nullptr : &*found;
}

Session::Session(mem::FileDescriptor socket, Device& device, Hooks hooks)
    : socket_(std::move(socket)), device_(device), hooks_(std::move(hooks)) {
    ++device_.session_counters().connections;
}

Session::~Session() {
    const auto hold = hooks_.hold();
    stop_rings();
    for (const GuestRegion& region : device_.memory().regions()) hooks_.region_removed(region);
    device_.disconnect();
}

bool Session::handle_message() {
    Message message;
    if (!receive(message)) return false;
    Answer answer;
    try {
        answer = serve(message);
        if (!answer) note_refusal(message, answer.error());
    } catch (const std::system_error& error) {
        answer = std::unexpected(&Counters::system_error);
        note_refusal(message, answer.error(), error.what());
    }
    return reply(message, answer);
}

bool Session::receive(Message& message) {
    try {
        if (!mem::receive_exact(socket_.get(), mem::writable_bytes_of(message.header), message.descriptors,
                                message_limit))
            return false;
        ++device_.session_counters().messages;
        if ((message.header.flags & wire::version_mask) != wire::version ||
            (message.header.flags & wire::flag_reply) != 0) {
            note_refusal(message, &Counters::bad_flags);
            return false;
        }
        if (message.header.size > wire::most_payload_bytes) {  // nothing to do but to lose the thread
            note_refusal(message, &Counters::bad_size);
            return false;
        }
        message.payload.resize(message.header.size);
        if (message.payload.empty() ||
            mem::receive_exact(socket_.get(), message.payload, message.descriptors, message_limit))
            return true;
        note_refusal(message, &Counters::broken_stream, "the connection ended inside a message");
    } catch (const std::system_error& error) {
        note_refusal(message, &Counters::broken_stream, error.what());
    }
    return false;
}

Session::Answer Session::serve(Message& message) {
    const Rule* const rule = find_rule(message.header.request);
    if (rule == nullptr) return std::unexpected(&Counters::unknown_request);
    if (message.payload.size() < rule->least_bytes || message.payload.size() > rule->most_bytes)
        return std::unexpected(&Counters::bad_size);
    if (message.descriptors.size() > rule->most_descriptors) return std::unexpected(&Counters::bad_descriptors);
    if ((device_.protocol_features() & rule->protocol_feature) != rule->protocol_feature)
        return std::unexpected(&Counters::not_allowed);
    return (this->*rule->handler)(message);
}

bool Session::reply(const Message& message, const Answer& answer) {
    // Answered whether or not REPLY_ACK was negotiated: who sets the flag waits.
    const bool wanted = (message.header.flags & wire::flag_need_reply) != 0;
    std::vector<std::byte> payload;
    if (answer && !answer->empty())
        payload = *answer;
    else if (wanted)
        payload = reply_of(answer ? std::uint64_t{0} : refused);
    else
        return answer.has_value();

    const wire::Header header{.request = message.header.request,
                              .flags = wire::reply_flags,
                              .size = static_cast<std::uint32_t>(payload.size())};
    std::vector<std::byte> bytes = reply_of(header);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    try {
        mem::send_all(socket_.get(), bytes, {}, message_limit);
    } catch (const std::system_error& error) {
        note_refusal(message, &Counters::broken_stream, error.what());
        return false;
    }
    return true;
}

void Session::note_refusal(const Message& message, Reason reason, std::string_view detail) {
    ++(device_.session_counters().*reason);
    const Rule* const rule = find_rule(message.header.request);
    last_refusal_ = rule == nullptr ? "request " + std::to_string(message.header.request) : std::string(rule->name);
    last_refusal_ += ": ";
    last_refusal_ += std::ranges::find(Counters::names, reason, &CounterName<Counters>::value)->name;
    if (!detail.empty()) last_refusal_.append(": ").append(detail);
}

Session::Answer Session::get_features(Message&) {
    return reply_of(device_.offered_features());
}

Session::Answer Session::set_features(Message& message) {
    const auto features = message.read<std::uint64_t>();
    // Without VERSION_1 the header would be a shorter one, in the guest's byte order.
    if ((features & ~device_.offered_features()) != 0 || (features & feature::version_1) == 0)
        return std::unexpected(&Counters::bad_value);
    if (features == device_.features()) return {};  // said again on live rings
    const auto hold = hooks_.hold();
    stop_rings();
    device_.set_features(features);
    if ((features & feature::protocol_features) == 0)
        for (unsigned ring = 0; ring < device_.rings(); ++ring) device_.vring(ring).enabled = Enabled::yes;
    start_rings();
    return {};
}

Session::Answer Session::set_owner(Message&) {
    return {};
}

Session::Answer Session::reset_owner(Message&) {
    const auto hold = hooks_.hold();
    stop_rings();
    // Without SET_VRING_ENABLE nobody would ever enable them again.
    if ((device_.features() & feature::protocol_features) != 0)
        for (unsigned ring = 0; ring < device_.rings(); ++ring) device_.vring(ring).enabled = Enabled::not_yet;
    start_rings();
    return {};
}

Session::Answer Session::get_protocol_features(Message&) {
    return reply_of(Device::offered_protocol_features());
}

Session::Answer Session::set_protocol_features(Message& message) {
    const auto features = message.read<std::uint64_t>();
    if ((features & ~Device::offered_protocol_features()) != 0) return std::unexpected(&Counters::bad_value);
    const auto hold = hooks_.hold();
    stop_rings();
    device_.set_protocol_features(features);
    start_rings();
    return {};
}

/// QEMU's virtio-net takes this number for pairs, everybody else for rings. Rings beyond ours are refused one by one.
Session::Answer Session::get_queue_num(Message&) {
    return reply_of(std::uint64_t{device_.rings()});
}

Session::Answer Session::net_set_mtu(Message& message) {
    const auto mtu = message.read<std::uint64_t>();
    if (mtu < least_mtu || mtu > device_.config().mtu) return std::unexpected(&Counters::bad_value);
    return {};
}

Session::Answer Session::get_config(Message& message) {
    auto access = message.read<wire::ConfigAccess>();
    if (message.payload.size() != sizeof(access) + access.size_bytes) return std::unexpected(&Counters::bad_size);
    const NetConfig space = device_.config_space();
    if (std::uint64_t{access.offset} + access.size_bytes > sizeof(space)) {
        note_refusal(message, &Counters::bad_value);
        access.size_bytes = 0;  // how this request says no
    }
    std::vector<std::byte> payload = reply_of(access);
    const auto part = mem::bytes_of(space).subspan(access.size_bytes == 0 ? 0 : access.offset, access.size_bytes);
    payload.insert(payload.end(), part.begin(), part.end());
    return payload;
}

/// The guest starts over. Memory, eventfds and what was negotiated stay: QEMU does not send them again.
Session::Answer Session::reset_device(Message&) {
    const auto hold = hooks_.hold();
    stop_rings();
    for (unsigned ring = 0; ring < device_.rings(); ++ring) {
        device_.vring(ring).started = false;
        device_.vring(ring).enabled = Enabled::not_yet;
    }
    device_.set_status(0);
    return {};
}

Session::Answer Session::set_status(Message& message) {
    const auto status = message.read<std::uint64_t>();
    if (status > 0xff) return std::unexpected(&Counters::bad_value);
    if (status == 0) {  // reset; whether rings are enabled stays the front-end's word
        const auto hold = hooks_.hold();
        stop_rings();
        for (unsigned ring = 0; ring < device_.rings(); ++ring) device_.vring(ring).started = false;
    }
    device_.set_status(status);
    return {};
}

Session::Answer Session::get_status(Message&) {
    return reply_of(device_.status());
}

}  // namespace vitrine::virtio
