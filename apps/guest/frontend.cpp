#include "apps/guest/frontend.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

#include "mem/socket.hpp"
#include "virtio/features.hpp"

namespace vitrine::guest {
namespace {

using namespace virtio::vhost_user;
namespace feature = virtio::feature;

/// What cloud-hypervisor takes, less what it needs for migration.
constexpr std::uint64_t wanted_protocol_features =
    protocol::mq | protocol::reply_ack | protocol::config | protocol::configure_mem_slots;
/// cloud-hypervisor reads the configuration up to and with the duplex field.
constexpr std::size_t config_bytes = offsetof(virtio::NetConfig, rss_key_bytes);
static_assert(config_bytes == 17);

std::string name_of(Request request) {
    switch (request) {
        case Request::get_features:
            return "GET_FEATURES";
        case Request::set_features:
            return "SET_FEATURES";
        case Request::set_owner:
            return "SET_OWNER";
        case Request::set_mem_table:
            return "SET_MEM_TABLE";
        case Request::set_vring_num:
            return "SET_VRING_NUM";
        case Request::set_vring_addr:
            return "SET_VRING_ADDR";
        case Request::set_vring_base:
            return "SET_VRING_BASE";
        case Request::get_vring_base:
            return "GET_VRING_BASE";
        case Request::set_vring_kick:
            return "SET_VRING_KICK";
        case Request::set_vring_call:
            return "SET_VRING_CALL";
        case Request::get_protocol_features:
            return "GET_PROTOCOL_FEATURES";
        case Request::set_protocol_features:
            return "SET_PROTOCOL_FEATURES";
        case Request::get_queue_num:
            return "GET_QUEUE_NUM";
        case Request::set_vring_enable:
            return "SET_VRING_ENABLE";
        case Request::get_config:
            return "GET_CONFIG";
        default:
            return "request " + std::to_string(static_cast<std::uint32_t>(request));
    }
}

[[noreturn]] void refuse(Request request, const std::string& why) {
    throw std::system_error(EPROTO, std::generic_category(), name_of(request) + ": the back-end " + why);
}

}  // namespace

mem::FileDescriptor connect_to_backend(const std::string& path, std::chrono::milliseconds limit) {
    constexpr std::chrono::milliseconds pause{100};
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        try {
            return mem::connect_unix(path);
        } catch (const std::system_error& error) {
            const bool may_come =
                error.code() == std::errc::no_such_file_or_directory || error.code() == std::errc::connection_refused;
            if (!may_come || std::chrono::steady_clock::now() + pause > deadline)
                throw std::system_error(error.code(),
                                        "no back-end at " + path + " (does vitrine run and listen there?)");
        }
        std::this_thread::sleep_for(pause);
    }
}

mem::FileDescriptor await_backend(const std::string& path, std::chrono::milliseconds limit) {
    const mem::FileDescriptor listener = mem::listen_unix(path);
    mem::FileDescriptor socket;
    if (mem::wait_readable(listener.get(), limit)) socket = mem::accept_unix(listener.get());
    ::unlink(path.c_str());
    if (socket) return socket;
    throw std::system_error(ETIMEDOUT, std::generic_category(), path + ": no back-end connected");
}

Frontend::Frontend(mem::FileDescriptor socket, std::uint64_t wanted, unsigned rings) : socket_(std::move(socket)) {
    tell(Request::set_owner);
    const std::uint64_t offered = ask(Request::get_features);
    const std::uint64_t required = feature::version_1 | feature::protocol_features;
    if ((offered & required) != required)
        refuse(Request::get_features, "does not offer VERSION_1 and VHOST_USER_F_PROTOCOL_FEATURES");
    features_ = offered & (wanted | required);

    const std::uint64_t agreed = ask(Request::get_protocol_features) & wanted_protocol_features;
    tell(Request::set_protocol_features, mem::bytes_of(agreed));
    protocol_features_ = agreed;  // and from here on with NEED_REPLY

    if (protocol_features_ & protocol::mq) {
        const std::uint64_t backend_rings = ask(Request::get_queue_num);
        if (backend_rings < rings)
            refuse(Request::get_queue_num,
                   "has " + std::to_string(backend_rings) + " rings, needed are " + std::to_string(rings));
    }
    if (protocol_features_ & protocol::config) read_config();
}

void Frontend::activate(const GuestRam& ram, std::span<RingEnd* const> rings) {
    tell(Request::set_features, mem::bytes_of(features_));
    share_memory(ram);
    for (unsigned ring = 0; ring < rings.size(); ++ring)
        if (rings[ring] != nullptr) tell_state(Request::set_vring_num, ring, rings[ring]->entries());
    for (unsigned ring = 0; ring < rings.size(); ++ring)
        if (rings[ring] != nullptr) describe_ring(ring, *rings[ring]);
    for (unsigned ring = 0; ring < rings.size(); ++ring)
        if (rings[ring] != nullptr) tell_state(Request::set_vring_enable, ring, 1);
}

void Frontend::deactivate(std::span<RingEnd* const> rings) {
    for (unsigned ring = 0; ring < rings.size(); ++ring) {
        if (rings[ring] == nullptr) continue;
        tell_state(Request::set_vring_enable, ring, 0);
        VringState state{ring, 0};
        send(Request::get_vring_base, mem::bytes_of(state), {});
        receive(Request::get_vring_base, mem::writable_bytes_of(state));
        if (!rings[ring]->stands_at(state.number)) rings[ring]->note(Violation::base_not_used_index);
    }
}

bool Frontend::keep(Clock::time_point) {
    return !mem::wait_readable(socket_.get(), std::chrono::milliseconds(0));
}

void Frontend::share_memory(const GuestRam& ram) {
    struct {
        MemoryTable table;
        MemoryRegion region;
    } message{{.regions = 1, .padding = 0},
              {.guest_address = ram.address_of(ram.bytes().data()).raw,
               .size_bytes = ram.bytes().size(),
               .user_address = std::bit_cast<std::uint64_t>(ram.bytes().data()),
               .mmap_offset = 0}};
    const std::array files{ram.file()};
    tell(Request::set_mem_table, mem::bytes_of(message), files);
}

void Frontend::describe_ring(unsigned ring, const RingEnd& where) {
    const VringAddress address{.index = ring,
                               .flags = 0,
                               .descriptors = std::bit_cast<std::uint64_t>(where.descriptors()),
                               .used = std::bit_cast<std::uint64_t>(where.device_area()),
                               .available = std::bit_cast<std::uint64_t>(where.driver_area()),
                               .log = 0};
    tell(Request::set_vring_addr, mem::bytes_of(address));
    tell_state(Request::set_vring_base, ring, where.base());
    tell_file(Request::set_vring_call, ring, where.call_descriptor());
    tell_file(Request::set_vring_kick, ring, where.kick_descriptor());
}

void Frontend::read_config() {
    struct {
        ConfigAccess access;
        std::array<std::byte, config_bytes> bytes;
    } message{};
    constexpr std::size_t message_bytes = sizeof(ConfigAccess) + config_bytes;
    static_assert(offsetof(decltype(message), bytes) == sizeof(ConfigAccess));
    message.access = {.offset = 0, .size_bytes = config_bytes, .flags = 1};
    const ConfigAccess asked = message.access;
    send(Request::get_config, mem::bytes_of(message).first(message_bytes), {});
    receive(Request::get_config, mem::writable_bytes_of(message).first(message_bytes));
    if (message.access.offset != asked.offset || message.access.size_bytes != asked.size_bytes)
        refuse(Request::get_config, "does not echo offset and size");
    config_.emplace();
    std::memcpy(&*config_, message.bytes.data(), config_bytes);
}

void Frontend::tell_state(Request request, unsigned ring, std::uint32_t number) {
    const VringState state{ring, number};
    tell(request, mem::bytes_of(state));
}

void Frontend::tell_file(Request request, unsigned ring, int descriptor) {
    const std::uint64_t index = ring;
    const std::array files{descriptor};
    tell(request, mem::bytes_of(index), files);
}

void Frontend::tell(Request request, std::span<const std::byte> payload, std::span<const int> descriptors) {
    send(request, payload, descriptors);
    if (!(protocol_features_ & protocol::reply_ack)) return;
    std::uint64_t failure = 0;
    receive(request, mem::writable_bytes_of(failure));
    if (failure != 0) refuse(request, "refused it with " + std::to_string(failure));
}

std::uint64_t Frontend::ask(Request request) {
    std::uint64_t answer = 0;
    send(request, {}, {});
    receive(request, mem::writable_bytes_of(answer));
    return answer;
}

void Frontend::send(Request request, std::span<const std::byte> payload, std::span<const int> descriptors) {
    const Header header{.request = static_cast<std::uint32_t>(request),
                        .flags = version | (protocol_features_ & protocol::reply_ack ? flag_need_reply : 0),
                        .size = static_cast<std::uint32_t>(payload.size())};
    std::vector<std::byte> message(sizeof(header) + payload.size());
    std::memcpy(message.data(), &header, sizeof(header));
    if (!payload.empty()) std::memcpy(message.data() + sizeof(header), payload.data(), payload.size());
    try {
        mem::send_all(socket_.get(), message, descriptors, answer_limit);
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), name_of(request) + ": cannot be sent");
    }
}

void Frontend::receive(Request request, std::span<std::byte> payload) {
    Header header{};
    std::vector<mem::FileDescriptor> descriptors;
    try {
        if (!mem::receive_exact(socket_.get(), mem::writable_bytes_of(header), descriptors, answer_limit))
            throw std::system_error(ECONNRESET, std::generic_category());
        if (header.request != static_cast<std::uint32_t>(request) || header.flags != reply_flags)
            refuse(request, "answers with request " + std::to_string(header.request) + ", flags " +
                                std::to_string(header.flags));
        if (header.size != payload.size())
            refuse(request, "answers with " + std::to_string(header.size) + " bytes instead of " +
                                std::to_string(payload.size()));
        if (!mem::receive_exact(socket_.get(), payload, descriptors, answer_limit))
            throw std::system_error(ECONNRESET, std::generic_category());
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::protocol_error) throw;
        throw std::system_error(error.code(),
                                name_of(request) + ": no answer from the back-end (it serves one front-end at a time)");
    }
}

}  // namespace vitrine::guest
