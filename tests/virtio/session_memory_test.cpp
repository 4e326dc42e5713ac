/// Guest memory that comes, goes and changes under running rings.

#include <unistd.h>

#include "tests/virtio/front_end.hpp"

using namespace vitrine;
using test::GuestBehind;
namespace wire = virtio::vhost_user;
using wire::Request;

namespace {

void queue_frames(GuestBehind& guest, int frames) {
    for (int i = 0; i < frames; ++i) guest.transmit_ring.post({{guest.data, 72}}, false);
}

}  // namespace

TEST_CASE("memory that comes leaves running rings alone") {
    GuestBehind guest;
    guest.negotiate();
    const std::uint64_t rest = guest.ram.bytes().size() - 0x1000;
    REQUIRE(guest.add_region(guest.ram, guest.ram.region(0, rest)));
    for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
    for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
    queue_frames(guest, 1);
    REQUIRE(guest.device.transmit(0)->next());
    REQUIRE(guest.add_region(guest.ram, guest.ram.region(rest, 0x1000)));
    CHECK(guest.drained.empty());
    CHECK(guest.device.transmit(0)->in_flight() == 1);
    CHECK(guest.receives(60));
}

TEST_CASE("memory that goes takes its rings along, and brings them back") {
    GuestBehind guest;
    guest.negotiate();
    const auto transmit = guest.ram.region(guest.transmit_offset, 0x4'0000);
    REQUIRE(guest.add_region(guest.ram, guest.ram.region(0, guest.transmit_offset)));
    REQUIRE(guest.add_region(guest.ram, transmit));
    REQUIRE(guest.add_region(guest.ram, guest.ram.region(guest.data, 0x10'0000)));
    for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
    for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
    queue_frames(guest, 2);
    REQUIRE(guest.device.transmit(0)->next());

    REQUIRE(guest.remove_region(transmit));
    CHECK(guest.drained == std::vector<unsigned>{0, 1});
    CHECK(guest.removed == std::vector<std::uint64_t>{transmit.guest_address});
    CHECK(guest.device.transmit(0) == nullptr);
    CHECK(guest.receives(60));
    CHECK(guest.device.session_counters().rings_lost_memory == 1);
    CHECK(!guest.remove_region(transmit));

    REQUIRE(guest.add_region(guest.ram, transmit));
    REQUIRE(guest.device.transmit(0) != nullptr);
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.device.transmit(0)->next());
    CHECK(guest.device.session_counters().rings_lost_memory == 1);
}

TEST_CASE("SET_MEM_TABLE on live rings replaces everything, a bad one nothing") {
    GuestBehind guest;
    guest.start();
    CHECK(guest.receives(60));
    const auto whole = guest.ram.whole();
    CHECK(!guest.set_mem_table(guest.ram, {whole, whole}));  // overlap
    auto beyond = whole;
    beyond.mmap_offset = 4096;
    CHECK(!guest.set_mem_table(guest.ram, {beyond}));
    CHECK(guest.removed.empty());
    CHECK(guest.receives(61));
    const auto half = whole.size_bytes / 2;
    CHECK(guest.set_mem_table(guest.ram, {guest.ram.region(0, half), guest.ram.region(half, half)}));
    CHECK(guest.removed.size() == 1);
    CHECK(guest.added.size() == 3);
    CHECK(guest.receives(62));
    CHECK(guest.set_mem_table(guest.ram, {}));
    CHECK(guest.device.receive(0) == nullptr);
    CHECK(guest.device.session_counters().rings_lost_memory == 2);
}

TEST_CASE("a table that says more regions than it has, or fewer descriptors, is refused") {
    GuestBehind guest;
    guest.negotiate();
    std::vector<std::byte> payload = virtio::reply_of(wire::MemoryTable{.regions = 0x0800'0001, .padding = 0});
    const auto region = mem::bytes_of(guest.ram.whole());
    const auto whole = guest.ram.whole();
    payload.insert(payload.end(), mem::bytes_of(whole).begin(), mem::bytes_of(whole).end());
    CHECK(region.size() == 32);
    CHECK(guest.exchange(Request::set_mem_table, payload, {guest.ram.file()}, true)->front() == std::byte{1});
    payload[0] = std::byte{1};
    payload[3] = std::byte{0};
    CHECK(guest.exchange(Request::set_mem_table, payload, {}, true)->front() == std::byte{1});
    CHECK(guest.exchange(Request::set_mem_table, payload, {guest.ram.file(), guest.ram.file()}, true)->front() ==
          std::byte{1});
    CHECK(guest.exchange(Request::set_mem_table, payload, {guest.ram.file()}, true)->front() == std::byte{0});
}

TEST_CASE("memory that the front-end truncates under running rings is known to be lost, and nothing crashes") {
    GuestBehind guest;
    guest.start();
    guest.receive_ring.post({{guest.data, 2048}}, true);
    queue_frames(guest, 3);
    CHECK_FALSE(guest.device.memory().lost());
    REQUIRE(::ftruncate(guest.ram.file(), 0) == 0);
    const std::vector<std::byte> frame(60);
    const std::span<const std::byte> piece(frame);
    guest.device.receive(0)->deliver({&piece, 1}, {});
    guest.device.receive(0)->publish();
    while (guest.device.transmit(0)->next()) {
    }
    guest.device.transmit(0)->publish();
    CHECK(guest.device.memory().lost());
}
