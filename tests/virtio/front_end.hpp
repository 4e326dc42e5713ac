#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <doctest/doctest.h>

#include "mem/socket.hpp"
#include "tests/support/guest_ring.hpp"
#include "virtio/features.hpp"
#include "virtio/session.hpp"

namespace vitrine::test {

namespace wire = virtio::vhost_user;

/// A front-end and the session it talks to, in one thread: each request is served before the call returns.
class FrontEnd {
public:
    static constexpr std::uint64_t features = virtio::feature::version_1 | virtio::feature::mrg_rxbuf |
                                              virtio::feature::indirect_desc | virtio::feature::event_idx |
                                              virtio::feature::protocol_features;

    explicit FrontEnd(const virtio::DeviceConfig& config = {}) : device(config) {
        hooks.hold = [this] {
            ++holds;
            return mem::Handover::Hold{};
        };
        hooks.drain = [this](unsigned ring) { drained.push_back(ring); };
        hooks.region_added = [this](const virtio::GuestRegion& region) { added.push_back(region.guest.raw); };
        hooks.region_removed = [this](const virtio::GuestRegion& region) { removed.push_back(region.guest.raw); };
        connect();
    }

    /// A new connection, the old one closed first.
    void connect() {
        session.reset();
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        socket = mem::FileDescriptor(ends[0]);
        session = std::make_unique<virtio::Session>(mem::FileDescriptor(ends[1]), device, hooks);
        open = true;
    }

    void send_raw(std::uint32_t request, std::uint32_t flags, std::span<const std::byte> payload,
                  const std::vector<int>& files = {}) {
        const wire::Header header{
            .request = request, .flags = flags, .size = static_cast<std::uint32_t>(payload.size())};
        std::vector<std::byte> bytes = virtio::reply_of(header);
        bytes.insert(bytes.end(), payload.begin(), payload.end());
        mem::send_all(socket.get(), bytes, files, std::chrono::seconds(1));
    }
    /// The payload of the reply that waits, if one does.
    std::optional<std::vector<std::byte>> reply(std::uint32_t request) {
        if (!mem::wait_readable(socket.get(), std::chrono::milliseconds(0))) return std::nullopt;
        wire::Header header{};
        std::vector<mem::FileDescriptor> none;
        if (!mem::receive_exact(socket.get(), mem::writable_bytes_of(header), none, std::chrono::seconds(1)))
            return std::nullopt;
        CHECK(header.request == request);
        REQUIRE(header.flags == 5);
        std::vector<std::byte> payload(header.size);
        REQUIRE(mem::receive_exact(socket.get(), payload, none, std::chrono::seconds(1)));
        CHECK(none.empty());
        return payload;
    }
    /// Sends one request and lets the session serve it; `open` says whether the connection lives.
    std::optional<std::vector<std::byte>> exchange(wire::Request request, std::span<const std::byte> payload,
                                                   const std::vector<int>& files = {}, bool need_reply = false) {
        REQUIRE(open);
        send_raw(static_cast<std::uint32_t>(request), need_reply ? 9u : 1u, payload, files);
        open = session->handle_message();
        return reply(static_cast<std::uint32_t>(request));
    }

    /// A request with need_reply; true when it was acknowledged with 0.
    template <class Payload>
    bool set(wire::Request request, const Payload& payload, const std::vector<int>& files = {}) {
        return acknowledged(exchange(request, mem::bytes_of(payload), files, true));
    }
    bool set(wire::Request request) { return acknowledged(exchange(request, {}, {}, true)); }
    std::uint64_t get(wire::Request request) {
        const auto answer = exchange(request, {});
        REQUIRE(answer);
        return number(*answer);
    }
    std::uint32_t get_base(std::uint32_t ring) {
        const auto answer = exchange(wire::Request::get_vring_base, mem::bytes_of(wire::VringState{ring, 0}));
        REQUIRE(answer);
        REQUIRE(answer->size() == sizeof(wire::VringState));
        wire::VringState state{};
        std::memcpy(&state, answer->data(), sizeof(state));
        CHECK(state.index == ring);
        return state.number;
    }
    bool enable(std::uint32_t ring, bool on) {
        return set(wire::Request::set_vring_enable, wire::VringState{ring, on ? 1u : 0u});
    }

    bool set_mem_table(const GuestRam& ram, const std::vector<wire::MemoryRegion>& regions) {
        std::vector<std::byte> payload =
            virtio::reply_of(wire::MemoryTable{.regions = static_cast<std::uint32_t>(regions.size()), .padding = 0});
        for (const auto& region : regions) {
            const auto bytes = mem::bytes_of(region);
            payload.insert(payload.end(), bytes.begin(), bytes.end());
        }
        return acknowledged(
            exchange(wire::Request::set_mem_table, payload, std::vector<int>(regions.size(), ram.file()), true));
    }
    bool add_region(const GuestRam& ram, const wire::MemoryRegion& region) {
        return set(wire::Request::add_mem_reg, wire::SingleRegion{.padding = 0, .region = region}, {ram.file()});
    }
    bool remove_region(const wire::MemoryRegion& region) {
        return set(wire::Request::rem_mem_reg, wire::SingleRegion{.padding = 0, .region = region});
    }
    static wire::VringAddress address_of(const GuestRing& ring, std::uint64_t descriptors, std::uint32_t index) {
        return {.index = index,
                .flags = 0,
                .descriptors = GuestRam::user_base + descriptors,
                .used = GuestRam::user_base + ring.used_offset(),
                .available = GuestRam::user_base + ring.available_offset(),
                .log = 0};
    }
    void negotiate(std::uint64_t protocol_features = virtio::Device::offered_protocol_features()) {
        REQUIRE(set(wire::Request::set_owner));
        REQUIRE(set(wire::Request::set_protocol_features, protocol_features));
        REQUIRE(set(wire::Request::set_features, features));
    }

    virtio::Device device;
    virtio::Hooks hooks;  ///< of the next connection
    unsigned holds = 0;
    std::vector<unsigned> drained;
    std::vector<std::uint64_t> added;
    std::vector<std::uint64_t> removed;
    mem::FileDescriptor socket;
    std::unique_ptr<virtio::Session> session;
    bool open = false;

private:
    static std::uint64_t number(const std::vector<std::byte>& payload) {
        REQUIRE(payload.size() == sizeof(std::uint64_t));
        std::uint64_t value = 0;
        std::memcpy(&value, payload.data(), sizeof(value));
        return value;
    }
    static bool acknowledged(const std::optional<std::vector<std::byte>>& answer) {
        REQUIRE(answer);
        return number(*answer) == 0;
    }
};

/// A guest with one receive and one transmit ring behind a front-end.
struct GuestBehind : FrontEnd {
    static constexpr std::uint64_t data = 0x10'0000;
    static constexpr std::uint64_t receive_offset = 0;
    static constexpr std::uint64_t transmit_offset = 0x4'0000;

    explicit GuestBehind(std::uint16_t start = 0, const virtio::DeviceConfig& config = {})
        : FrontEnd(config),
          receive_ring(ram, receive_offset, 8, start),
          transmit_ring(ram, transmit_offset, 8, start) {}

    GuestRing& ring(std::uint32_t index) { return index == 0 ? receive_ring : transmit_ring; }
    std::uint64_t offset(std::uint32_t index) const { return index == 0 ? receive_offset : transmit_offset; }

    void configure(std::uint32_t index, std::uint16_t base) {
        REQUIRE(set(wire::Request::set_vring_num, wire::VringState{index, 8}));
        REQUIRE(set(wire::Request::set_vring_addr, address_of(ring(index), offset(index), index)));
        REQUIRE(set(wire::Request::set_vring_base, wire::VringState{index, base}));
        REQUIRE(set(wire::Request::set_vring_call, std::uint64_t{index}, {call[index].get()}));
        REQUIRE(set(wire::Request::set_vring_err, std::uint64_t{index}, {error[index].get()}));
        REQUIRE(set(wire::Request::set_vring_kick, std::uint64_t{index}, {kick[index].get()}));
    }
    /// All the way to running rings.
    void start(std::uint64_t protocol_features = virtio::Device::offered_protocol_features()) {
        negotiate(protocol_features);
        REQUIRE(set_mem_table(ram, {ram.whole()}));
        for (std::uint32_t index : {0u, 1u}) configure(index, ring(index).posted());
        for (std::uint32_t index : {0u, 1u}) REQUIRE(enable(index, true));
        REQUIRE(device.receive(0) != nullptr);
        REQUIRE(device.transmit(0) != nullptr);
    }
    /// A frame of `bytes` to the guest, seen by it.
    bool receives(std::size_t bytes) {
        receive_ring.post({{data, 2048}}, true);
        const std::vector<std::byte> frame(bytes, std::byte{0x5a});
        const std::span<const std::byte> piece(frame);
        if (device.receive(0)->deliver({&piece, 1}, {}) != virtio::ReceiveQueue::Outcome::delivered) return false;
        device.receive(0)->publish();
        return receive_ring.take_frame() == frame;
    }

    GuestRam ram{0x20'0000};
    GuestRing receive_ring;
    GuestRing transmit_ring;
    mem::EventFd kick[2];
    mem::EventFd call[2];
    mem::EventFd error[2];
};

}  // namespace vitrine::test
