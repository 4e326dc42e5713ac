/// The receive path with a guest that asked for pages (docs/vrx.md).

#include <doctest/doctest.h>

#include "tests/apps/lending_bench.hpp"

using namespace vitrine;
using test::held_limit;
using test::LendingBench;
using virtio::vrx::Answer;
using virtio::vrx::Marker;
using virtio::vrx::Mode;

namespace {

bool all(std::span<const std::byte> bytes, std::byte value) {
    return std::ranges::all_of(bytes, [value](std::byte one) { return one == value; });
}

}  // namespace

TEST_CASE("a guest that asked for pages gets the NIC's own: nothing is copied") {
    LendingBench bench;
    bench.nic_writes(60, true, std::byte{0x42});
    CHECK(bench.receive.poll() != 0);
    const auto element = bench.driver.take();
    REQUIRE(element.has_value());
    CHECK(element->word.length_bytes() == 60);
    CHECK(all(bench.bytes(element->word), std::byte{0x42}));
    CHECK(bench.received.lent == 1);
    CHECK(bench.received.copied == 0);
    bench.check_conserved();

    bench.driver.give_back(element->word.page());
    bench.driver.publish_returns();
    CHECK(bench.receive.poll() != 0);  // an idle turn reads returns
    CHECK(bench.ledger.lent_to(0) == 0);
    CHECK(bench.receive.poll() == 0);
    bench.check_conserved();
}

TEST_CASE("a frame over several descriptors is lent as one, and seen only when it is whole") {
    LendingBench bench;
    bench.nic_writes(2048, false, std::byte{1});
    bench.receive.poll();
    CHECK_FALSE(bench.driver.has_used());
    bench.nic_writes(100, true, std::byte{2});
    bench.receive.poll();
    const auto first = bench.driver.take();
    const auto second = bench.driver.take();
    REQUIRE(second.has_value());
    CHECK(first->word.has(virtio::vrx::UsedPage::next));
    CHECK(all(bench.bytes(first->word), std::byte{1}));
    CHECK(second->word.length_bytes() == 100);
    CHECK(all(bench.bytes(second->word), std::byte{2}));
    bench.check_conserved();
}

TEST_CASE("a guest that returns nothing loses frames by that reason, and the NIC always has pages") {
    LendingBench bench;
    for (unsigned frame = 0; frame < 500; ++frame) {
        REQUIRE(bench.nic_has_room());
        bench.nic_writes(60);
        bench.receive.poll();
        while (bench.driver.take()) bench.driver.give_credits(1);
    }
    CHECK(bench.received.lent == held_limit);
    CHECK(bench.received.drop_held > 350);
    CHECK(bench.received.drop_no_buffer == 0);
    CHECK(bench.ledger.lent_to(0) == held_limit);
    bench.check_conserved();
}

TEST_CASE("a guest without credits loses frames as one without buffers does") {
    LendingBench bench;
    for (unsigned frame = 0; frame < 500; ++frame) {
        bench.nic_writes(60);
        bench.receive.poll();
        while (const auto element = bench.driver.take()) bench.driver.give_back(element->word.page());
        bench.driver.publish_returns();
    }
    CHECK(bench.received.lent == bench.ring_entries);
    CHECK(bench.received.drop_no_buffer > 300);
    CHECK(bench.received.drop_held == 0);
    bench.check_conserved();
}

TEST_CASE("VRX 3.4: where it is not allowed the marker is refused, the ring stays idle, and the reason is told") {
    LendingBench bench(false);
    for (unsigned frame = 0; frame < 10; ++frame) bench.nic_writes(60);
    bench.receive.poll();
    CHECK(bench.driver.answer() == Answer::refused(virtio::vrx::Refusal::not_offered));
    CHECK_FALSE(bench.driver.has_used());
    CHECK(bench.received.drop_ring_broken == 10);
    CHECK(bench.device.receive_counters(0).rx_refused == 1);
    CHECK(bench.device.receive(0)->text() == "refused: its mode is not offered");
    bench.check_conserved();
}

TEST_CASE(
    "VRX 7.1: a stop and a start of the ring keep the pages lent; a standard driver after it takes them all back") {
    LendingBench bench;
    bench.nic_writes(60);
    bench.receive.poll();
    CHECK(bench.driver.take().has_value());
    bench.disconnect_guest();
    bench.device.memory() = {};
    bench.connect_guest();
    bench.nic_writes(60, true, std::byte{9});
    bench.receive.poll();
    CHECK(bench.ledger.lent_to(0) == 2);
    CHECK(all(bench.bytes(bench.driver.take()->word), std::byte{9}));
    CHECK(bench.info.generation[0] == 0);
    CHECK(bench.device.receive(0)->text() == "pages");
    CHECK(bench.device.receive(0)->held() == 2);
    bench.check_conserved();

    bench.disconnect_guest();
    bench.device.memory() = {};
    bench.driver.start({});
    test::GuestRing standard(bench.ram, bench.receive_ring_at, bench.ring_entries);
    bench.connect_guest();
    CHECK(bench.device.receive(0)->text() == "no buffer seen yet");
    standard.post({{bench.buffers_at, 1536}}, true);
    bench.nic_writes(60, true, std::byte{7});
    bench.receive.poll();
    CHECK(*standard.take_frame() == std::vector<std::byte>(60, std::byte{7}));
    CHECK(bench.ledger.lent_to(0) == 0);
    CHECK(bench.info.generation[0] == 1);
    CHECK(bench.received.copied == 1);
    CHECK(bench.device.receive(0)->text() == "copy");
    CHECK(bench.device.receive(0)->held() == 0);
    bench.check_conserved();
}

TEST_CASE("VRX 4.4: while there is no VF or no link the guest's pages are taken back, and its markers answered") {
    LendingBench bench;
    bench.nic_writes(60);
    bench.receive.poll();
    const std::uint16_t page = bench.driver.take()->word.page();
    bench.receive.detach(0);
    bench.driver.give_back(page);
    bench.driver.publish_returns();
    CHECK(bench.receive.poll() == 1);
    CHECK(bench.ledger.lent_to(0) == 0);
    CHECK(bench.receive.poll() == 0);

    bench.disconnect_guest();
    bench.device.memory() = {};
    bench.driver.start(virtio::vrx::Marker::of(virtio::vrx::Mode::pages, 0x0403'0201));
    bench.driver.give_credits(1);
    bench.connect_guest();
    CHECK(bench.receive.poll() == 0);
    CHECK(bench.driver.answer() == Answer::granted(virtio::vrx::Mode::pages));
    CHECK(bench.driver.breach == "");
}

TEST_CASE("VRX 7.5: a live ring of a device that no longer allows pages, or has other ones, is refused aloud") {
    LendingBench bench;
    bench.nic_writes(60);
    bench.receive.poll();
    bench.disconnect_guest();
    bench.device.memory() = {};
    bench.device.set_lending(nullptr);
    bench.connect_guest();
    bench.nic_writes(60);
    bench.receive.poll();
    CHECK(bench.driver.answer() == Answer::refused(virtio::vrx::Refusal::not_offered));
    CHECK(bench.driver.used_index() == 1);
}
