/// Packed rings as a front-end describes, stops and starts them.

#include <doctest/doctest.h>

#include "tests/support/packed_guest_ring.hpp"
#include "tests/virtio/front_end.hpp"
#include "tests/virtio/packed_pages_bench.hpp"

using namespace vitrine;
using test::FrontEnd;
using test::GuestRam;
using test::PackedGuestRing;
namespace wire = virtio::vhost_user;
using wire::Request;

namespace {

constexpr std::uint64_t packed_features = FrontEnd::features | virtio::feature::ring_packed;

/// A guest with a receive and a transmit ring, packed, behind a front-end.
struct PackedGuest : FrontEnd {
    static constexpr std::uint64_t data = 0x10'0000;

    explicit PackedGuest(std::uint16_t entries = 7, std::uint16_t start = 0x8000)
        : FrontEnd({.packed = true}),
          receive_ring(ram, 0, entries, start),
          transmit_ring(ram, 0x4'0000, entries, start) {}

    PackedGuestRing& ring(std::uint32_t index) { return index == 0 ? receive_ring : transmit_ring; }
    wire::VringAddress address(std::uint32_t index) {
        return {.index = index,
                .flags = 0,
                .descriptors = GuestRam::user_base + 0x4'0000 * index,
                .used = GuestRam::user_base + ring(index).device_area(),
                .available = GuestRam::user_base + ring(index).driver_area(),
                .log = 0};
    }
    bool set_base(std::uint32_t index, std::uint32_t base) {
        return set(Request::set_vring_base, wire::VringState{index, base});
    }
    bool set_size(std::uint32_t index, std::uint32_t entries) {
        return set(Request::set_vring_num, wire::VringState{index, entries});
    }
    bool start(std::uint32_t index) { return set(Request::set_vring_kick, std::uint64_t{index}, {kick[index].get()}); }
    void describe(std::uint32_t index, std::uint32_t base) {
        REQUIRE(set_size(index, ring(index).entries()));
        REQUIRE(set(Request::set_vring_addr, address(index)));
        REQUIRE(set_base(index, base));
        REQUIRE(set(Request::set_vring_call, std::uint64_t{index}, {call[index].get()}));
        REQUIRE(set(Request::set_vring_err, std::uint64_t{index}, {error[index].get()}));
        REQUIRE(enable(index, true));
    }
    void greet(std::uint64_t wanted = packed_features) {
        REQUIRE(set(Request::set_owner));
        REQUIRE(set(Request::set_protocol_features, virtio::Device::offered_protocol_features()));
        REQUIRE(set(Request::set_features, wanted));
        REQUIRE(set_mem_table(ram, {ram.whole()}));
    }
    /// All the way to running rings.
    void run(std::uint32_t base = 0x8000'8000) {
        greet();
        for (std::uint32_t index : {0u, 1u}) {
            describe(index, base);
            REQUIRE(start(index));
            REQUIRE(device.running(index));
        }
    }
    bool receives(std::size_t bytes) {
        if (receive_ring.free_slots() > 0) receive_ring.post({{data, 2048}}, true);
        const std::vector<std::byte> frame(bytes, std::byte{0x5a});
        const std::span<const std::byte> piece(frame);
        device.receive(0)->lends();  // decides
        if (device.receive(0)->deliver({&piece, 1}, {}) != virtio::Delivery::delivered) return false;
        device.receive(0)->publish();
        return receive_ring.take_frame() == frame;
    }
    void queue_frames(int frames) {
        for (int i = 0; i < frames; ++i) transmit_ring.post({{data, 12}, {data, 60}}, false);
    }

    GuestRam ram{0x20'0000};
    PackedGuestRing receive_ring;
    PackedGuestRing transmit_ring;
    mem::EventFd kick[2];
    mem::EventFd call[2];
    mem::EventFd error[2];
};

}  // namespace

TEST_CASE("packed rings are offered where the operator wants them, and bit 58 where pages are lent") {
    FrontEnd without;
    CHECK((without.get(Request::get_features) & virtio::feature::ring_packed) == 0);
    CHECK_FALSE(without.set(Request::set_features, packed_features));
    FrontEnd with({.packed = true});
    CHECK((with.get(Request::get_features) & virtio::feature::ring_packed) != 0);
    CHECK((with.get(Request::get_features) & virtio::vrx::feature) == 0);
    CHECK_FALSE(with.set(Request::set_features, packed_features | virtio::vrx::feature));
    CHECK(with.set(Request::set_features, packed_features));
    test::PackedPagesBench lending;
    CHECK((lending.device.offered_features() & virtio::vrx::feature) != 0);
}

TEST_CASE("VIRTIO 1.3, 2.8.10.1: a packed ring has any size up to 32768, a split one a power of two") {
    PackedGuest guest;
    REQUIRE(guest.set(Request::set_owner));
    CHECK_FALSE(guest.set_size(0, 7));
    guest.greet();
    for (const std::uint32_t size : {1u, 2u, 3u, 7u, 1000u, 32767u, 32768u}) CHECK(guest.set_size(0, size));
    for (const std::uint32_t size : {0u, 32769u, 65536u, 0x1'0007u, ~0u}) CHECK_FALSE(guest.set_size(0, size));
}

TEST_CASE("a packed ring starts where SET_VRING_BASE says, in slot and lap, and its answer is where it stopped") {
    for (const std::uint16_t place : {0x8000, 0x8006, 0x0000, 0x0003}) {
        CAPTURE(place);
        PackedGuest guest(7, place);
        guest.run(place | std::uint32_t{place} << 16);
        for (unsigned i = 0; i < 20; ++i) CHECK(guest.receives(60 + i));
        const std::uint16_t now = guest.receive_ring.seen();
        CHECK(guest.get_base(0) == (now | std::uint32_t{now} << 16));
        CHECK_FALSE(guest.device.running(0));
        REQUIRE(guest.set_base(0, now | std::uint32_t{now} << 16));
        REQUIRE(guest.start(0));
        for (unsigned i = 0; i < 20; ++i) CHECK(guest.receives(60 + i));
        CHECK(guest.device.session_counters().base_differs == 0);
    }
}

TEST_CASE("SET_VRING_BASE has 32 bits for a packed ring and 16 for a split one") {
    PackedGuest guest;
    guest.greet();
    CHECK(guest.set_base(0, 0x8003'8003));
    CHECK(guest.get_base(0) == 0x8003'8003);
    REQUIRE(guest.set(Request::set_features, FrontEnd::features));
    CHECK_FALSE(guest.set_base(0, 0x8000'8000));
    CHECK(guest.set_base(0, 0xffff));
}

TEST_CASE("a ring that nobody described stands at its first slot, in the first lap") {
    PackedGuest guest;
    guest.greet();
    CHECK(guest.get_base(0) == 0x8000'8000);
    CHECK(guest.get_base(1) == 0x8000'8000);
}

TEST_CASE("a base beyond the ring does not start it") {
    for (const std::uint32_t base : {0x8007'8000u, 0x8000'8007u, 0x7fff'7fffu, 0x0007'0007u}) {
        CAPTURE(base);
        PackedGuest guest;
        guest.greet();
        for (const std::uint32_t index : {0u, 1u}) {
            guest.describe(index, base);
            CHECK_FALSE(guest.start(index));
            CHECK_FALSE(guest.device.running(index));
            REQUIRE(guest.set_base(index, 0x8006'8006));
            CHECK(guest.start(index));
            CHECK(guest.device.running(index));
        }
    }
}

TEST_CASE("a ring that shrinks below its place does not start again") {
    PackedGuest guest;
    guest.run();
    for (unsigned i = 0; i < 5; ++i) CHECK(guest.receives(60));
    CHECK_FALSE(guest.set_size(0, 5));
    CHECK_FALSE(guest.device.running(0));
    CHECK(guest.set_size(0, 7));
    CHECK(guest.start(0));
    CHECK(guest.receives(60));
}

TEST_CASE("a front-end may fill in the half of the base that DPDK's does") {
    PackedGuest guest(7, 0x8002);
    guest.greet();
    guest.queue_frames(2);
    for (const std::uint32_t index : {0u, 1u}) {
        guest.describe(index, 0x0000'8002);
        REQUIRE(guest.start(index));
    }
    CHECK(guest.receives(60));
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.device.session_counters().base_differs == 0);
}

TEST_CASE("what was read and not used is not done: a standard ring starts at the next descriptor to write over") {
    PackedGuest guest(7, 0x8002);
    guest.greet();
    guest.queue_frames(2);
    for (const std::uint32_t index : {0u, 1u}) {
        guest.describe(index, 0x8002'8006);
        REQUIRE(guest.start(index));
    }
    CHECK(guest.device.session_counters().base_differs == 2);
    CHECK(guest.receives(60));
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.device.transmit(0)->next());
}

TEST_CASE("GET_VRING_BASE rolls back what is in flight, and what was shown stays used") {
    PackedGuest guest;
    guest.run();
    guest.queue_frames(3);
    for (int i = 0; i < 3; ++i) REQUIRE(guest.device.transmit(0)->next());
    guest.device.transmit(0)->complete_oldest(1);  // and not published
    const std::uint32_t base = guest.get_base(1);
    CHECK(guest.transmit_ring.take_used());
    CHECK_FALSE(guest.transmit_ring.take_used());
    CHECK(base == 0x8002'8002);
    REQUIRE(guest.set_base(1, base));
    REQUIRE(guest.start(1));
    for (int i = 0; i < 2; ++i) CHECK(guest.device.transmit(0)->next());
    CHECK_FALSE(guest.device.transmit(0)->next());
    guest.device.transmit(0)->complete_oldest(2);
    guest.device.transmit(0)->publish();
    CHECK(guest.call[1].drain());
    for (int i = 0; i < 2; ++i) CHECK(guest.transmit_ring.take_used());
}

TEST_CASE("rings that stop for a change of memory go on where they stopped, without a base") {
    PackedGuest guest;
    guest.run();
    for (unsigned i = 0; i < 10; ++i) {
        CHECK(guest.receives(60));
        REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
        REQUIRE(guest.device.running(0));
    }
    REQUIRE(guest.enable(0, false));
    CHECK_FALSE(guest.device.running(0));
    REQUIRE(guest.enable(0, true));
    CHECK(guest.receives(60));
}

TEST_CASE("a packed ring that lies outside of guest memory, or badly aligned, does not start") {
    const auto starts = [](auto change) {
        PackedGuest guest;
        guest.greet();
        guest.describe(0, 0x8000'8000);
        wire::VringAddress address = guest.address(0);
        change(address);
        REQUIRE(guest.set(Request::set_vring_addr, address));
        const bool started = guest.start(0);
        CHECK(guest.device.running(0) == started);
        return started;
    };
    const std::uint64_t end = GuestRam::user_base + 0x20'0000;
    CHECK(starts([](auto&) {}));
    CHECK(starts([&](auto& address) { address.descriptors = end - 7 * 16; }));
    CHECK_FALSE(starts([&](auto& address) { address.descriptors = end - 6 * 16; }));
    CHECK_FALSE(starts([](auto& address) { address.descriptors += 8; }));
    for (const auto area : {&wire::VringAddress::used, &wire::VringAddress::available}) {
        CHECK(starts([&](auto& address) { address.*area += 4; }));
        CHECK(starts([&](auto& address) { address.*area = end - 4; }));
        CHECK_FALSE(starts([&](auto& address) { address.*area += 2; }));
        CHECK_FALSE(starts([&](auto& address) { address.*area += 1; }));
        CHECK_FALSE(starts([&](auto& address) { address.*area = end; }));
        CHECK_FALSE(starts([&](auto& address) { address.*area = end - 2; }));
        CHECK_FALSE(starts([&](auto& address) { address.*area = 0; }));
    }
}

TEST_CASE("features that change from packed to split do not start a ring of an odd size, nor end the session") {
    PackedGuest guest;
    guest.run();
    CHECK(guest.receives(60));
    REQUIRE(guest.set(Request::set_features, FrontEnd::features));
    CHECK_FALSE(guest.device.running(0));
    CHECK_FALSE(guest.device.running(1));
    REQUIRE(guest.set(Request::set_features, packed_features));
    REQUIRE(guest.device.running(0));
    REQUIRE(guest.get_base(0) == 0x8000'8000);  // where it stood was of another kind of ring in between
    const std::uint16_t now = guest.receive_ring.seen();
    REQUIRE(guest.set_base(0, now | std::uint32_t{now} << 16));
    REQUIRE(guest.start(0));
    CHECK(guest.receives(60));
}

TEST_CASE("where a ring was to start as a split one is no place in it as a packed one") {
    PackedGuest guest(8);
    guest.greet(FrontEnd::features);
    guest.describe(0, 300);
    REQUIRE(guest.set(Request::set_features, packed_features));
    REQUIRE(guest.start(0));
    REQUIRE(guest.device.running(0));
    CHECK(guest.receives(60));
}

TEST_CASE("SET_VRING_BASE for a packed ring that runs is no place to go on from later") {
    PackedGuest guest;
    guest.run();
    REQUIRE(guest.set_base(0, 0x8000'8000));
    for (unsigned i = 0; i < 3; ++i) CHECK(guest.receives(60));
    REQUIRE(guest.enable(0, false));
    REQUIRE(guest.enable(0, true));
    CHECK(guest.receives(60));
}

TEST_CASE("features that change from packed to split and back leave rings that both can be") {
    PackedGuest guest(8);
    guest.run();
    CHECK(guest.receives(60));
    REQUIRE(
        guest.set(Request::set_features, FrontEnd::features));  // descriptors lie where event areas do, as it happens
    for (const std::uint32_t index : {0u, 1u}) {
        REQUIRE(guest.set_base(index, 0));
        const std::uint32_t base = guest.get_base(index);
        CHECK(base <= 0xffff);
    }
    REQUIRE(guest.set(Request::set_features, packed_features));
    const std::uint16_t now = guest.receive_ring.seen();
    REQUIRE(guest.set_base(0, now | std::uint32_t{now} << 16));
    REQUIRE(guest.start(0));
    CHECK(guest.receives(60));
}

TEST_CASE("a broken packed ring is told through its error eventfd, and the next start heals it") {
    PackedGuest guest;
    guest.run();
    guest.receive_ring.post_raw(0, 16, 1, virtio::PackedDescriptor::indirect);
    CHECK_FALSE(guest.receives(60));
    CHECK(guest.error[0].drain());
    CHECK(guest.device.receive(0)->broken());
    const std::uint32_t base = guest.get_base(0);
    CHECK(base == 0x8000'8000);
    guest.receive_ring.set_descriptor(
        0, {.address = GuestRam::guest_base + guest.data,
            .length_bytes = 2048,
            .id = 1,
            .flags = virtio::PackedDescriptor::available | virtio::PackedDescriptor::device_writes});
    REQUIRE(guest.start(0));
    const std::vector<std::byte> frame(60);
    const std::span<const std::byte> piece(frame);
    guest.device.receive(0)->lends();
    CHECK(guest.device.receive(0)->deliver({&piece, 1}, {}) == virtio::Delivery::delivered);
}

TEST_CASE("a disconnect forgets where packed rings stood") {
    PackedGuest guest;
    guest.run();
    for (unsigned i = 0; i < 3; ++i) CHECK(guest.receives(60));
    guest.connect();
    guest.greet();
    CHECK(guest.get_base(0) == 0x8000'8000);
}
