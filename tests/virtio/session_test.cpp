#include "virtio/session.hpp"

#include <doctest/doctest.h>

#include "tests/virtio/front_end.hpp"

using namespace vitrine;
using test::GuestBehind;
namespace wire = virtio::vhost_user;
using wire::Request;

namespace {

/// What cloud-hypervisor negotiates: neither RESET_DEVICE nor STATUS.
constexpr std::uint64_t cloud_hypervisor_protocol =
    wire::protocol::mq | wire::protocol::reply_ack | wire::protocol::configure_mem_slots | wire::protocol::config;

void queue_frames(GuestBehind& guest, int frames) {
    for (int i = 0; i < frames; ++i) guest.transmit_ring.post({{guest.data, 72}}, false);
}

}  // namespace

TEST_CASE("cloud-hypervisor: creation, activation, guest reset, activation, close") {
    GuestBehind guest;
    REQUIRE(guest.set(Request::set_owner));
    const std::uint64_t offer = guest.get(Request::get_features);
    REQUIRE((offer & virtio::feature::protocol_features) != 0);
    const std::uint64_t protocol = guest.get(Request::get_protocol_features) & cloud_hypervisor_protocol;
    REQUIRE(protocol == cloud_hypervisor_protocol);
    CHECK(!guest.exchange(Request::set_protocol_features, mem::bytes_of(protocol)));  // without need_reply
    const auto rings = guest.exchange(Request::get_queue_num, {}, {}, true);
    CHECK(rings == virtio::reply_of(std::uint64_t{2}));
    std::vector<std::byte> config = virtio::reply_of(wire::ConfigAccess{0, 17, 1});
    config.resize(29);
    REQUIRE(guest.exchange(Request::get_config, config, {}, true)->size() == 29);

    for (int activation = 0; activation < 3; ++activation) {
        REQUIRE(guest.set(Request::set_features, guest.features));
        REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
        for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.set(Request::set_vring_num, wire::VringState{ring, 8}));
        guest.receive_ring.post({{guest.data, 2048}}, true);
        queue_frames(guest, 2);
        for (std::uint32_t ring : {0u, 1u}) {
            // It sends avail.idx: what the guest has posted would be skipped.
            guest.configure(ring, guest.ring(ring).posted());
            CHECK(guest.device.receive(0) == nullptr);
        }
        for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
        REQUIRE(guest.device.receive(0) != nullptr);
        CHECK(guest.device.receive(0)->has_waiting());  // without a kick
        REQUIRE(guest.device.transmit(0)->next());
        REQUIRE(guest.device.transmit(0)->next());
        guest.device.transmit(0)->complete_oldest(2);
        guest.device.transmit(0)->publish();
        CHECK(guest.transmit_ring.take_used());
        CHECK(guest.transmit_ring.take_used());
        CHECK(guest.receives(60));
        guest.device.receive(0)->publish();

        for (std::uint32_t ring : {0u, 1u}) {
            REQUIRE(guest.enable(ring, false));
            CHECK(guest.get_base(ring) == guest.ring(ring).used_index());
        }
        CHECK(guest.device.receive(0) == nullptr);
        CHECK(guest.device.transmit(0) == nullptr);
        CHECK(guest.device.session_counters().base_differs == 2u * static_cast<unsigned>(activation + 1));
    }
    guest.session.reset();
    CHECK(guest.device.memory().regions().empty());
    CHECK(guest.removed.size() == 3);
}

TEST_CASE("cloud-hypervisor: a pause leaves disabled rings untouched until they are enabled") {
    GuestBehind guest;
    guest.start(cloud_hypervisor_protocol);
    queue_frames(guest, 3);
    for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, false));
    CHECK(guest.device.receive(0) == nullptr);
    CHECK(guest.device.transmit(0) == nullptr);
    for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.transmit_ring.used_index() == 0);
}

TEST_CASE("QEMU: a disabled transmit ring is drained, a disabled receive ring is silent") {
    GuestBehind guest;
    guest.start();
    queue_frames(guest, 3);
    for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, false));
    CHECK(guest.device.receive(0) == nullptr);
    REQUIRE(guest.device.transmit(0) != nullptr);
    CHECK(!guest.device.transmit(0)->next());
    guest.device.transmit(0)->publish();
    CHECK(guest.transmit_ring.used_index() == 3);
    CHECK(guest.device.transmit_counters(0).tx_disabled == 3);
    REQUIRE(guest.enable(1, true));
    queue_frames(guest, 1);
    CHECK(guest.device.transmit(0)->next());
}

TEST_CASE("QEMU: resets before the guest driver runs, memory slot by slot, a stop and a start") {
    GuestBehind guest;
    guest.get(Request::get_features);
    REQUIRE(guest.set(Request::set_protocol_features, guest.get(Request::get_protocol_features)));
    CHECK(guest.get(Request::get_queue_num) == 2);
    CHECK(guest.get(Request::get_max_mem_slots) == 509);
    REQUIRE(guest.set(Request::set_owner));
    for (std::uint32_t ring : {0u, 1u}) {
        REQUIRE(guest.set(Request::set_vring_call, std::uint64_t{ring}, {guest.call[ring].get()}));
        REQUIRE(guest.set(Request::set_vring_err, std::uint64_t{ring}, {guest.error[ring].get()}));
    }
    const auto half = guest.ram.bytes().size() / 2;
    for (int life = 0; life < 3; ++life) {
        for (int reset = 0; reset < 3; ++reset) {
            REQUIRE(guest.set(Request::reset_device));
            for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
        }
        REQUIRE(guest.set(Request::set_features, guest.features));
        CHECK(guest.get(Request::get_status) == 0);
        REQUIRE(guest.set(Request::set_status, std::uint64_t{7}));
        if (life == 0) {  // later on QEMU knows that we have them
            REQUIRE(guest.add_region(guest.ram, guest.ram.region(0, half)));
            REQUIRE(guest.add_region(guest.ram, guest.ram.region(half, half)));
        }
        for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, guest.ring(ring).used_index());
        CHECK(guest.receives(60));
        CHECK(guest.get(Request::get_status) == 7);
        for (std::uint32_t ring : {0u, 1u}) CHECK(guest.get_base(ring) == guest.ring(ring).used_index());
        REQUIRE(guest.set(Request::set_status, std::uint64_t{0}));
    }
    CHECK(guest.device.session_counters().base_differs == 0);
    CHECK(guest.added.size() == 2);
}

TEST_CASE("a reset stops the rings of a guest that is still running") {
    for (const auto request : {Request::reset_device, Request::set_status}) {
        GuestBehind guest;
        guest.start();
        if (request == Request::set_status)
            CHECK(guest.set(request, std::uint64_t{0}));
        else
            CHECK(guest.set(request));
        CHECK(guest.device.receive(0) == nullptr);
        CHECK(guest.device.transmit(0) == nullptr);
        CHECK(guest.drained == std::vector<unsigned>{0, 1});
    }
}

TEST_CASE("a ring that was not enabled yet loses nothing, though its front-end is of the draining kind") {
    GuestBehind guest;
    guest.negotiate();
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    queue_frames(guest, 2);
    guest.configure(1, 0);
    CHECK(guest.device.transmit(0) == nullptr);
    REQUIRE(guest.enable(1, true));
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.device.transmit(0)->next());
}

TEST_CASE("without PROTOCOL_FEATURES rings run from their kick on") {
    GuestBehind guest;
    REQUIRE(guest.set(Request::set_features, virtio::feature::version_1 | virtio::feature::mrg_rxbuf));
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
    CHECK(guest.receives(60));
}

TEST_CASE("enable may come first, and more than once") {
    GuestBehind guest;
    guest.negotiate();
    for (int round = 0; round < 3; ++round)
        for (std::uint32_t ring : {0u, 1u}) CHECK(guest.enable(ring, true));
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
    CHECK(guest.receives(60));
    CHECK(guest.enable(0, true));
    CHECK(guest.receives(61));
}

TEST_CASE("the driver is called once when its ring starts, and once when its eventfd is swapped") {
    GuestBehind guest;
    guest.start();
    const auto poll = [&] {
        guest.device.receive(0)->publish();
        guest.device.transmit(0)->publish();
    };
    CHECK(!guest.call[0].drain());  // the poll thread's to write
    poll();
    CHECK(guest.call[0].drain());
    CHECK(guest.call[1].drain());
    poll();
    CHECK(!guest.call[0].drain());
    const mem::EventFd masked;
    REQUIRE(guest.set(Request::set_vring_call, std::uint64_t{0}, {masked.get()}));
    poll();
    CHECK(masked.drain());
    CHECK(guest.receives(60));
    CHECK(masked.drain());
    CHECK(!guest.call[0].drain());
    REQUIRE(guest.set(Request::set_vring_call, std::uint64_t{0} | wire::vring_file_none));
    CHECK(guest.receives(60));
    CHECK(!masked.drain());
}

TEST_CASE("a new process goes on at used.idx, whatever base the front-end sends") {
    GuestBehind guest(65'530);
    for (int i = 0; i < 4; ++i) guest.receive_ring.post({{guest.data + 4096u * static_cast<unsigned>(i), 2048}}, true);
    guest.start(cloud_hypervisor_protocol);  // sends avail.idx
    const std::vector<std::byte> frame(60, std::byte{1});
    const std::span<const std::byte> piece(frame);
    for (int i = 0; i < 2; ++i)
        CHECK(guest.device.receive(0)->deliver({&piece, 1}, {}) == virtio::ReceiveQueue::Outcome::delivered);
    guest.device.receive(0)->publish();
    guest.connect();  // as after a crash: nobody asked for the base
    guest.start(cloud_hypervisor_protocol);
    for (int i = 0; i < 2; ++i)
        CHECK(guest.device.receive(0)->deliver({&piece, 1}, {}) == virtio::ReceiveQueue::Outcome::delivered);
    guest.device.receive(0)->publish();
    for (int i = 0; i < 4; ++i) CHECK(guest.receive_ring.take_frame() == frame);
    CHECK(guest.get_base(0) == 65'534);
}

TEST_CASE("GET_VRING_BASE stops the ring and rolls back what is in flight") {
    GuestBehind guest;
    guest.start();
    queue_frames(guest, 4);
    for (int i = 0; i < 3; ++i) REQUIRE(guest.device.transmit(0)->next());
    guest.device.transmit(0)->complete_oldest(1);  // not published: the stop does it
    CHECK(guest.get_base(1) == 1);
    CHECK(guest.transmit_ring.used_index() == 1);
    CHECK(guest.drained == std::vector<unsigned>{1});
    CHECK(guest.device.transmit(0) == nullptr);
    CHECK(guest.get_base(1) == 1);  // again, on a stopped ring
    guest.configure(1, 1);
    for (int i = 0; i < 3; ++i) CHECK(guest.device.transmit(0)->next());
    CHECK(!guest.device.transmit(0)->next());
}

TEST_CASE("GET_VRING_BASE of a ring that never ran is what was set") {
    GuestBehind guest;
    guest.negotiate();
    CHECK(guest.get_base(0) == 0);
    REQUIRE(guest.set(Request::set_vring_base, wire::VringState{0, 77}));
    CHECK(guest.get_base(0) == 77);
    CHECK(!guest.set(Request::set_vring_base, wire::VringState{0, 0x1'0000}));
}

TEST_CASE("a ring outside guest memory or badly aligned does not start") {
    GuestBehind guest;
    guest.negotiate();
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    guest.configure(0, 0);
    REQUIRE(guest.enable(0, true));
    REQUIRE(guest.device.receive(0) != nullptr);
    const auto good = guest.address_of(guest.receive_ring, guest.receive_offset, 0);
    const std::uint64_t end = guest.ram.user_base + guest.ram.bytes().size();
    auto bad = good;
    SUBCASE("descriptors at 8") {
        bad.descriptors += 8;
    }
    SUBCASE("available ring at 1") {
        bad.available += 1;
    }
    SUBCASE("used ring at 2") {
        bad.used += 2;
    }
    SUBCASE("descriptors over the end") {
        bad.descriptors = end - 8 * 16 + 16;
    }
    SUBCASE("available ring over the end") {
        bad.available = end - 6 - 8 * 2 + 2;
    }
    SUBCASE("used ring over the end") {
        bad.used = end - 6 - 8 * 8 + 4;
    }
    SUBCASE("nowhere") {
        bad.used = 0;
    }
    SUBCASE("at the end of the address space") {
        bad.descriptors = ~std::uint64_t{15};
    }
    CHECK(!guest.set(Request::set_vring_addr, bad));
    CHECK(guest.device.receive(0) == nullptr);
    CHECK(guest.device.session_counters().bad_region == 1);
    REQUIRE(guest.set(Request::set_vring_addr, good));
    CHECK(guest.device.receive(0) == nullptr);  // a refused start is no start
    REQUIRE(guest.set(Request::set_vring_kick, std::uint64_t{0}, {guest.kick[0].get()}));
    CHECK(guest.receives(60));
}

TEST_CASE("a ring may end with its memory") {
    GuestBehind guest;
    guest.negotiate();
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    guest.configure(0, 0);
    auto address = guest.address_of(guest.receive_ring, guest.receive_offset, 0);
    const std::uint64_t end = guest.ram.user_base + guest.ram.bytes().size();
    address.used = end - 72;  // 70 bytes, 4-byte aligned
    CHECK(guest.set(Request::set_vring_addr, address));
    CHECK(guest.enable(0, true));
}

TEST_CASE("a log that is not offered is refused") {
    GuestBehind guest;
    guest.start();
    auto address = guest.address_of(guest.receive_ring, guest.receive_offset, 0);
    address.flags = 1;
    CHECK(!guest.set(Request::set_vring_addr, address));
    CHECK(guest.receives(60));
}

TEST_CASE("features may change on live rings, and the same ones change nothing") {
    GuestBehind guest;
    guest.start();
    CHECK(guest.set(Request::set_features, guest.features));
    CHECK(guest.drained.empty());
    CHECK(guest.set(Request::set_features, guest.features & ~virtio::feature::event_idx));
    CHECK(guest.drained == std::vector<unsigned>{0, 1});
    CHECK(guest.receives(60));
}

TEST_CASE("a broken ring is told through its error eventfd, and the next start heals it") {
    GuestBehind guest;
    guest.start();
    guest.receive_ring.set_available_index(1000);
    CHECK(guest.device.receive(0)->deliver({}, {}) == virtio::ReceiveQueue::Outcome::broken);
    CHECK(guest.error[0].drain());
    CHECK(guest.device.transmit(0)->broken() == false);
    CHECK(guest.get_base(0) == 0);
    guest.receive_ring.set_available_index(guest.receive_ring.posted());
    guest.configure(0, 0);
    CHECK(guest.receives(60));
    CHECK(guest.device.receive_counters(0).ring_broken == 1);
}

TEST_CASE("everything that a poll thread could meet changes inside a hold") {
    GuestBehind guest;
    guest.negotiate();
    REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.whole()}));
    for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
    unsigned before = guest.holds;
    const auto held = [&] { return std::exchange(before, guest.holds) < guest.holds; };
    CHECK(guest.enable(0, true));
    CHECK(held());
    CHECK(guest.set(Request::set_vring_call, std::uint64_t{0}, {guest.call[0].get()}));
    CHECK(held());
    CHECK(guest.set(Request::set_vring_kick, std::uint64_t{0}, {guest.kick[0].get()}));
    CHECK(held());
    CHECK(guest.set(Request::set_vring_err, std::uint64_t{0}, {guest.error[0].get()}));
    CHECK(held());
    CHECK(guest.set(Request::set_vring_num, wire::VringState{0, 8}));
    CHECK(held());
    CHECK(guest.set_mem_table(guest.ram, {guest.ram.region(0, 0x18'0000)}));
    CHECK(held());
    CHECK(guest.add_region(guest.ram, guest.ram.region(0x18'0000, 0x1000)));
    CHECK(held());
    CHECK(guest.remove_region(guest.ram.region(0x18'0000, 0x1000)));
    CHECK(held());
    CHECK(guest.set(Request::reset_owner));
    CHECK(held());
    guest.get_base(0);
    CHECK(held());
    guest.session.reset();
    CHECK(held());
}
