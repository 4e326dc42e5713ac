#include <dirent.h>
#include <map>

#include "tests/virtio/front_end.hpp"

using namespace vitrine;
using test::FrontEnd;
using test::GuestBehind;
namespace wire = virtio::vhost_user;
using wire::Request;

namespace {

std::size_t open_descriptors() {
    DIR* const directory = ::opendir("/proc/self/fd");
    REQUIRE(directory != nullptr);
    std::size_t count = 0;
    while (::readdir(directory) != nullptr) ++count;
    ::closedir(directory);
    return count;
}

/// Size of each request that exists, with one ring, one region, or 17 bytes of configuration.
const std::map<std::uint32_t, std::size_t> sizes = {
    {1, 0},  {2, 8},  {3, 0},  {4, 0},  {5, 40}, {8, 8},   {9, 40}, {10, 8}, {11, 8},  {12, 8},  {13, 8}, {14, 8},
    {15, 0}, {16, 8}, {17, 0}, {18, 8}, {20, 8}, {24, 29}, {34, 0}, {36, 0}, {37, 40}, {38, 40}, {39, 8}, {40, 0}};

}  // namespace

TEST_CASE("vhost-user: each id 0..64, each size, 0, 1 and 9 descriptors, with and without need_reply") {
    const std::size_t before = open_descriptors();
    const test::GuestRam ram(0x1000);
    const mem::EventFd event;
    for (std::uint32_t id = 0; id <= 64; ++id)
        for (const std::size_t size : {0, 1, 7, 8, 9, 12, 16, 29, 39, 40, 41, 72, 1032, 1033, 4096})
            for (const std::size_t files : {0, 1, 9})
                for (const bool need_reply : {false, true})
                    for (const bool memory : {false, true}) {
                        FrontEnd front_end;
                        front_end.negotiate();
                        const std::vector<std::byte> payload(size, std::byte{0});
                        front_end.send_raw(id, need_reply ? 9 : 1, payload,
                                           std::vector<int>(files, memory ? ram.file() : event.get()));
                        front_end.open = front_end.session->handle_message();
                        const auto reply = front_end.reply(id);
                        CAPTURE(id);
                        CAPTURE(size);
                        CAPTURE(files);
                        const bool known = sizes.contains(id);
                        const bool sized = known && (sizes.at(id) == size || id == 5 || id == 24);
                        const bool right_descriptors = files <= ((id >= 12 && id <= 14) || id == 37 || id == 38 ? 1u
                                                                 : id == 5                                      ? 32u
                                                                                                                : 0u);
                        if (!known || !sized || !right_descriptors) {
                            CHECK(front_end.open == need_reply);
                            CHECK(reply.has_value() == need_reply);
                            if (reply) CHECK((*reply)[0] == std::byte{1});
                            CHECK(!front_end.session->last_refusal().empty());
                        } else if (need_reply) {
                            CHECK(front_end.open);
                            CHECK(reply.has_value());
                        } else {
                            CHECK((front_end.open || !reply.has_value()));
                        }
                    }
    CHECK(open_descriptors() == before + 2);  // ram and event
}

TEST_CASE("vhost-user: replies carry version 1 and the reply bit alone, acknowledgements are a u64 0") {
    FrontEnd front_end;  // the helper insists on flags 5
    CHECK(front_end.get(Request::get_features) == front_end.device.offered_features());
    CHECK(front_end.set(Request::set_owner));
    const auto get_with_need_reply = front_end.exchange(Request::get_features, {}, {}, true);
    REQUIRE(get_with_need_reply);
    CHECK(get_with_need_reply->size() == 8);
    CHECK(!front_end.reply(1));  // one reply, not two
    CHECK(!front_end.exchange(Request::set_owner, {}));
}

TEST_CASE("a message of another version, a reply, or an endless one ends the connection") {
    for (const std::uint32_t flags : {0u, 2u, 3u, 5u, 13u}) {
        FrontEnd front_end;
        front_end.send_raw(1, flags, {});
        CHECK(!front_end.session->handle_message());
        CHECK(front_end.device.session_counters().bad_flags == 1);
    }
    FrontEnd front_end;
    const wire::Header header{.request = 1, .flags = 9, .size = wire::most_payload_bytes + 1};
    mem::send_all(front_end.socket.get(), mem::bytes_of(header), {}, std::chrono::seconds(1));
    CHECK(!front_end.session->handle_message());
    CHECK(front_end.device.session_counters().bad_size == 1);
}

TEST_CASE("a message that ends early ends the connection") {
    for (const std::size_t length : {1u, 11u, 12u, 19u}) {
        FrontEnd front_end;
        std::vector<std::byte> bytes = virtio::reply_of(wire::Header{.request = 2, .flags = 1, .size = 8});
        bytes.resize(length);
        mem::send_all(front_end.socket.get(), bytes, {}, std::chrono::seconds(1));
        front_end.socket.close();
        CHECK(!front_end.session->handle_message());
        CHECK(front_end.device.session_counters().broken_stream == 1);
    }
    FrontEnd front_end;
    front_end.socket.close();
    CHECK(!front_end.session->handle_message());
    CHECK(front_end.device.session_counters().broken_stream == 0);  // an orderly end
}

TEST_CASE("descriptors beyond the rule are refused and closed, however many and how often") {  // CVE-2019-14818
    FrontEnd front_end;
    const mem::EventFd event;
    const std::size_t before = open_descriptors();
    for (int round = 0; round < 100; ++round)
        for (const std::size_t files : {1u, 2u, 253u}) {
            const std::vector<int> many(files, event.get());
            CHECK(!front_end.set(Request::set_vring_num, wire::VringState{0, 8}, many));
            if (files > 1) CHECK(!front_end.set(Request::set_vring_call, std::uint64_t{0}, many));
        }
    CHECK(open_descriptors() == before);
    CHECK(front_end.device.session_counters().bad_descriptors == 500);
}

TEST_CASE("a repeated message keeps one descriptor, not many") {
    FrontEnd front_end;
    const mem::EventFd event;
    CHECK(front_end.set(Request::set_vring_call, std::uint64_t{1}, {event.get()}));
    const std::size_t before = open_descriptors();
    for (int round = 0; round < 1000; ++round) {
        CHECK(front_end.set(Request::set_vring_call, std::uint64_t{1}, {event.get()}));
        CHECK(front_end.set(Request::set_vring_num, wire::VringState{1, 256}));
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a ring index counts with all its bits") {  // CVE-2020-10723
    FrontEnd front_end;
    const mem::EventFd event;
    for (const std::uint32_t index : {2u, 3u, 0x100u, 0x1'0000u, 0x1'0001u, 0x8000'0000u, 0xffff'ffffu}) {
        for (const auto request :
             {Request::set_vring_num, Request::set_vring_base, Request::set_vring_enable, Request::get_vring_base})
            CHECK(!front_end.set(request, wire::VringState{index, 1}));
        CHECK(!front_end.set(
            Request::set_vring_addr,
            wire::VringAddress{.index = index, .flags = 0, .descriptors = 0, .used = 0, .available = 0, .log = 0}));
    }
    for (const std::uint64_t value : {2ull, 0xffull, 0x200ull, 0x1'0000ull, 0x1'0000'0000ull, ~0x100ull})
        for (const auto request : {Request::set_vring_kick, Request::set_vring_call, Request::set_vring_err})
            CHECK(!front_end.set(request, value, {event.get()}));
    CHECK(front_end.device.session_counters().bad_ring == 7 * 5 + 6 * 3);
}

TEST_CASE("ring sizes are powers of two up to 32768") {
    FrontEnd front_end;
    for (const std::uint32_t entries : {0u, 3u, 255u, 32'769u, 65'536u, 0x8000'0000u, 0xffff'ffffu})
        CHECK(!front_end.set(Request::set_vring_num, wire::VringState{0, entries}));
    for (std::uint32_t entries = 1; entries <= 32'768; entries *= 2)
        CHECK(front_end.set(Request::set_vring_num, wire::VringState{0, entries}));
}

TEST_CASE("only an eventfd can be a ring's eventfd") {
    FrontEnd front_end;
    const test::GuestRam ram(0x1000);
    for (const auto request : {Request::set_vring_kick, Request::set_vring_call, Request::set_vring_err}) {
        CHECK(!front_end.set(request, std::uint64_t{0}, {ram.file()}));
        CHECK(!front_end.set(request, std::uint64_t{0}, {front_end.socket.get()}));
        CHECK(!front_end.set(request, std::uint64_t{0}));      // promised and not sent
        CHECK(front_end.set(request, wire::vring_file_none));  // none, and said so
        const mem::EventFd event;
        CHECK(!front_end.set(request, wire::vring_file_none, {event.get()}));
    }
}

TEST_CASE("features and protocol features beyond the offer are refused") {
    FrontEnd front_end;
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t one = std::uint64_t{1} << bit;
        const bool offered = (front_end.device.offered_features() & one) != 0;
        CHECK(front_end.set(Request::set_features, virtio::feature::version_1 | one) == offered);
        const bool protocol_offered = (virtio::Device::offered_protocol_features() & one) != 0;
        CHECK(front_end.set(Request::set_protocol_features, one) == protocol_offered);
    }
    CHECK(!front_end.set(Request::set_features, virtio::feature::mac));  // not even VERSION_1
}

TEST_CASE("the offer is what can be finished, and the same after a reconnect") {
    FrontEnd front_end;
    const std::uint64_t features = front_end.get(Request::get_features);
    for (const unsigned bit : {0u, 1u, 7u, 8u, 11u, 12u, 17u, 22u, 26u, 34u, 38u})
        CHECK((features & (std::uint64_t{1} << bit)) == 0);
    const std::uint64_t protocol = front_end.get(Request::get_protocol_features);
    CHECK(protocol == ((1u << 0) | (1u << 3) | (1u << 4) | (1u << 9) | (1u << 13) | (1u << 15) | (1u << 16)));
    front_end.negotiate();
    front_end.connect();
    CHECK(front_end.get(Request::get_features) == features);
    CHECK(front_end.get(Request::get_protocol_features) == protocol);
    FrontEnd pairs({.pairs = 4});
    CHECK((pairs.get(Request::get_features) & virtio::feature::mq) != 0);
    CHECK((pairs.get(Request::get_features) & virtio::feature::ctrl_vq) != 0);
    pairs.negotiate();
    CHECK(pairs.get(Request::get_queue_num) == 8);
}

TEST_CASE("requests of a protocol feature that was not negotiated are refused") {
    FrontEnd front_end;
    for (const auto request :
         {Request::get_queue_num, Request::get_max_mem_slots, Request::reset_device, Request::get_status})
        CHECK(!front_end.set(request));
    CHECK(front_end.device.session_counters().not_allowed == 4);
    front_end.negotiate();
    CHECK(front_end.get(Request::get_max_mem_slots) == 509);
}

TEST_CASE("VIRTIO 1.3, 5.1.4: any part of the configuration space is echoed with its bytes, none beyond it") {
    FrontEnd front_end(
        {.mac = {0x52, 0x54, 0, 1, 2, 3}, .mtu = 9000, .pairs = 2, .link_up = true, .speed_mbps = 10'000});
    front_end.negotiate();
    const std::vector<std::uint8_t> space = {0x52, 0x54, 0, 1, 2, 3, 1, 0, 2, 0, 0x28, 0x23, 0x10, 0x27, 0, 0, 1};
    for (std::uint32_t offset = 0; offset <= 30; ++offset)
        for (std::uint32_t size = 0; size <= 32; ++size) {
            std::vector<std::byte> payload = virtio::reply_of(wire::ConfigAccess{offset, size, 1});
            payload.resize(payload.size() + size);
            const auto answer = front_end.exchange(Request::get_config, payload);
            REQUIRE(answer);
            wire::ConfigAccess access{};
            std::memcpy(&access, answer->data(), sizeof(access));
            CHECK(access.offset == offset);
            CHECK(access.flags == 1);
            CHECK(access.size_bytes == (offset + size > 28 ? 0 : size));
            REQUIRE(answer->size() == sizeof(access) + access.size_bytes);
            for (std::uint32_t i = 0; i < access.size_bytes && offset + i < space.size(); ++i)
                CHECK((*answer)[sizeof(access) + i] == std::byte{space[offset + i]});
        }
    std::vector<std::byte> lying = virtio::reply_of(wire::ConfigAccess{0, 17, 0});
    CHECK(front_end.exchange(Request::get_config, lying, {}, true)->size() == 8);
    lying = virtio::reply_of(wire::ConfigAccess{0, 0xffff'fff4, 0});
    CHECK(front_end.exchange(Request::get_config, lying, {}, true)->size() == 8);
}

TEST_CASE("an MTU that the device cannot carry is refused") {
    FrontEnd front_end({.mtu = 1500});
    front_end.negotiate();
    CHECK(front_end.set(Request::net_set_mtu, std::uint64_t{1500}));
    CHECK(front_end.set(Request::net_set_mtu, std::uint64_t{68}));
    for (const std::uint64_t mtu : {0ull, 67ull, 1501ull, 0x1'0000'05dcull})
        CHECK(!front_end.set(Request::net_set_mtu, mtu));
}
