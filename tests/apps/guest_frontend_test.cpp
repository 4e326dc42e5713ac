#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/driver_ring.hpp"
#include "apps/guest/frontend.hpp"
#include "apps/guest/packed_driver_ring.hpp"
#include "mem/socket.hpp"
#include "virtio/features.hpp"

using namespace vitrine;
using namespace vitrine::guest;
using namespace vitrine::virtio::vhost_user;
namespace feature = vitrine::virtio::feature;

namespace {

constexpr std::chrono::milliseconds hang_guard{5000};
constexpr std::uint64_t offered = feature::version_1 | feature::protocol_features | feature::mac;

/// A back-end that answers as told, and keeps what was asked.
class ScriptedBackend {
public:
    struct Asked {
        Request request;
        std::uint32_t flags;
        std::uint32_t size;
        std::size_t descriptors;
        bool operator==(const Asked&) const = default;
    };
    struct Reply {
        Header header{};
        std::vector<std::byte> payload{};
    };
    /// May change a reply before it is sent. False: hang up instead.
    using Mischief = std::function<bool(Request, Reply&)>;

    explicit ScriptedBackend(Mischief mischief = [](Request, Reply&) { return true; })
        : mischief_(std::move(mischief)) {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        frontend_end = mem::FileDescriptor(ends[0]);
        thread_ = std::thread([this, end = mem::FileDescriptor(ends[1])] { serve(end.get()); });
    }
    ~ScriptedBackend() { join(); }
    ScriptedBackend(const ScriptedBackend&) = delete;

    /// After the front-end has hung up: what was asked.
    const std::vector<Asked>& join() {
        frontend_end.close();
        if (thread_.joinable()) thread_.join();
        return asked_;
    }

    mem::FileDescriptor frontend_end;
    std::vector<VringState> bases;  ///< of SET_VRING_BASE; to be read after join()

private:
    void serve(int socket) {
        try {
            answer_all(socket);
        } catch (const std::system_error&) {
            // The front-end did not like an answer and hung up.
        }
    }

    void answer_all(int socket) {
        Header header{};
        std::vector<mem::FileDescriptor> descriptors;
        while (mem::receive_exact(socket, mem::writable_bytes_of(header), descriptors, hang_guard)) {
            std::vector<std::byte> payload(header.size);
            mem::receive_exact(socket, payload, descriptors, hang_guard);
            const auto request = static_cast<Request>(header.request);
            asked_.push_back({request, header.flags, header.size, descriptors.size()});
            descriptors.clear();
            if (request == Request::set_vring_base) {
                bases.emplace_back();
                std::memcpy(&bases.back(), payload.data(), sizeof(VringState));
            }
            auto answer = answer_to(request, payload);
            if (answer.empty() && (header.flags & flag_need_reply) != 0) answer.resize(sizeof(std::uint64_t));
            if (answer.empty()) continue;
            Reply reply{{header.request, reply_flags, 0}, std::move(answer)};
            reply.header.size = static_cast<std::uint32_t>(reply.payload.size());
            if (!mischief_(request, reply)) return;
            mem::send_all(socket, mem::bytes_of(reply.header), {}, hang_guard);
            mem::send_all(socket, reply.payload, {}, hang_guard);
        }
    }

    static std::vector<std::byte> answer_to(Request request, const std::vector<std::byte>& payload) {
        const auto number = [](std::uint64_t value) {
            const auto bytes = mem::bytes_of(value);
            return std::vector<std::byte>(bytes.begin(), bytes.end());
        };
        switch (request) {
            case Request::get_features:
                return number(offered);
            case Request::get_protocol_features:
                return number(~std::uint64_t{0});
            case Request::get_queue_num:
                return number(2);
            case Request::get_config:
            case Request::get_vring_base:
                return payload;
            default:
                return {};
        }
    }

    Mischief mischief_;
    std::vector<Asked> asked_;
    std::thread thread_;
};

std::string error_of(ScriptedBackend::Mischief mischief) {
    ScriptedBackend backend(std::move(mischief));
    try {
        const Frontend frontend(std::move(backend.frontend_end), feature::mac, 2);
    } catch (const std::system_error& error) {
        return error.what();
    }
    return "no error";
}

bool says(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the front-end sends what cloud-hypervisor sends, in its order, with its flags") {
    ScriptedBackend backend;
    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing receive(ram, {.entries = 8});
    DriverRing transmit(ram, {.entries = 8});
    const std::array<RingEnd*, 2> rings{&receive, &transmit};
    {
        Frontend frontend(std::move(backend.frontend_end), feature::mac | feature::mrg_rxbuf, 2);
        CHECK(frontend.features() == offered);
        CHECK(frontend.config().has_value());
        frontend.activate(ram, rings);
        frontend.deactivate(rings);
    }
    using enum Request;
    const std::vector<ScriptedBackend::Asked> expected{
        {set_owner, 1, 0, 0},
        {get_features, 1, 0, 0},
        {get_protocol_features, 1, 0, 0},
        {set_protocol_features, 1, 8, 0},
        {get_queue_num, 9, 0, 0},
        {get_config, 9, 29, 0},
        {set_features, 9, 8, 0},
        {set_mem_table, 9, 40, 1},
        {set_vring_num, 9, 8, 0},
        {set_vring_num, 9, 8, 0},
        {set_vring_addr, 9, 40, 0},
        {set_vring_base, 9, 8, 0},
        {set_vring_call, 9, 8, 1},
        {set_vring_kick, 9, 8, 1},
        {set_vring_addr, 9, 40, 0},
        {set_vring_base, 9, 8, 0},
        {set_vring_call, 9, 8, 1},
        {set_vring_kick, 9, 8, 1},
        {set_vring_enable, 9, 8, 0},
        {set_vring_enable, 9, 8, 0},
        {set_vring_enable, 9, 8, 0},
        {get_vring_base, 9, 8, 0},
        {set_vring_enable, 9, 8, 0},
        {get_vring_base, 9, 8, 0},
    };
    CHECK(backend.join() == expected);
    CHECK(receive.violations().total() == 0);
}

TEST_CASE("the base of a ring is its avail.idx, as cloud-hypervisor says it, and not its used.idx") {
    ScriptedBackend backend;
    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing ring(ram, {.entries = 8});
    REQUIRE(ring.add(std::array{Segment{mem::GuestPhys{0}, 100, true}}, 0));
    ring.publish();
    Frontend(std::move(backend.frontend_end), feature::mac, 2).activate(ram, std::array<RingEnd*, 1>{&ring});
    backend.join();
    REQUIRE(backend.bases.size() == 1);
    CHECK(backend.bases[0].number == 1);
}

TEST_CASE("the base of a packed ring is its start, with both wrap counters, and it is held to that") {
    ScriptedBackend backend([](Request request, ScriptedBackend::Reply& reply) {
        if (request == Request::get_vring_base) {
            VringState state{};
            std::memcpy(&state, reply.payload.data(), sizeof(state));
            state.number = state.index == 0 ? 0x8000'8000 : 0x8000'8001;
            std::memcpy(reply.payload.data(), &state, sizeof(state));
        }
        return true;
    });
    GuestRam ram(1 << 16, mem::Backing::small_only);
    PackedDriverRing receive(ram, {.entries = 7});
    PackedDriverRing transmit(ram, {.entries = 7});
    REQUIRE(receive.add(std::array{Segment{mem::GuestPhys{0}, 100, true}}, 0));
    receive.publish();
    const std::array<RingEnd*, 2> rings{&receive, &transmit};
    {
        Frontend frontend(std::move(backend.frontend_end), feature::mac, 2);
        frontend.activate(ram, rings);
        frontend.deactivate(rings);
    }
    backend.join();
    REQUIRE(backend.bases.size() == 2);
    CHECK(backend.bases[0].number == 0x8000'8000);
    CHECK(backend.bases[1].number == 0x8000'8000);
    CHECK(receive.violations().total() == 0);
    CHECK(transmit.violations().of(Violation::base_not_used_index) == 1);
}

TEST_CASE("a ring base that is not used.idx is a violation of that ring") {
    ScriptedBackend backend([](Request request, ScriptedBackend::Reply& reply) {
        if (request == Request::get_vring_base) {
            VringState state{};
            std::memcpy(&state, reply.payload.data(), sizeof(state));
            if (state.index == 1) state.number = 3;
            std::memcpy(reply.payload.data(), &state, sizeof(state));
        }
        return true;
    });
    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing receive(ram, {.entries = 8});
    DriverRing transmit(ram, {.entries = 8});
    const std::array<RingEnd*, 2> rings{&receive, &transmit};
    Frontend frontend(std::move(backend.frontend_end), feature::mac, 2);
    frontend.activate(ram, rings);
    frontend.deactivate(rings);
    CHECK(receive.violations().total() == 0);
    CHECK(transmit.violations().of(Violation::base_not_used_index) == 1);
}

TEST_CASE("a back-end that hangs up, refuses or talks nonsense is an error that names the request") {
    const auto at = [](Request where, auto change) {
        return [where, change](Request request, ScriptedBackend::Reply& reply) {
            return request != where || change(reply);
        };
    };
    const auto gone = error_of(at(Request::get_features, [](auto&) { return false; }));
    CHECK(says(gone, "GET_FEATURES: no answer from the back-end"));

    const auto few = error_of(at(Request::get_queue_num, [](auto& reply) {
        reply.payload[0] = std::byte{1};
        return true;
    }));
    CHECK(says(few, "GET_QUEUE_NUM: the back-end has 1 rings, needed are 2"));

    const auto poor = error_of(at(Request::get_features, [](auto& reply) {
        std::fill(reply.payload.begin(), reply.payload.end(), std::byte{0});
        return true;
    }));
    CHECK(says(poor, "GET_FEATURES: the back-end does not offer VERSION_1"));

    const auto flags = error_of(at(Request::get_protocol_features, [](auto& reply) {
        reply.header.flags = 0x1;
        return true;
    }));
    CHECK(says(flags, "GET_PROTOCOL_FEATURES: the back-end answers with request 15, flags 1"));

    const auto size = error_of(at(Request::get_config, [](auto& reply) {
        reply.header.size = 12;
        reply.payload.resize(12);
        return true;
    }));
    CHECK(says(size, "GET_CONFIG: the back-end answers with 12 bytes instead of 29"));

    const auto other = error_of(at(Request::get_config, [](auto& reply) {
        reply.payload[4] = std::byte{0};
        return true;
    }));
    CHECK(says(other, "GET_CONFIG: the back-end does not echo offset and size"));
}

TEST_CASE("a refused request is an error that names it") {
    ScriptedBackend backend([](Request request, ScriptedBackend::Reply& reply) {
        if (request == Request::set_mem_table) reply.payload[0] = std::byte{1};
        return true;
    });
    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing ring(ram, {.entries = 8});
    const std::array<RingEnd*, 1> rings{&ring};
    Frontend frontend(std::move(backend.frontend_end), feature::mac, 2);
    try {
        frontend.activate(ram, rings);
        FAIL("accepted");
    } catch (const std::system_error& error) {
        CHECK(says(error.what(), "SET_MEM_TABLE: the back-end refused it with 1"));
    }
}

TEST_CASE("nobody at the socket is an error that names it, after the limit") {
    for (const auto& attempt : {connect_to_backend, await_backend}) {
        try {
            attempt("/tmp/vitrine-no-such-backend.sock", std::chrono::milliseconds(0));
            FAIL("connected");
        } catch (const std::system_error& error) {
            CHECK(says(error.what(), "/tmp/vitrine-no-such-backend.sock"));
        }
    }
}
