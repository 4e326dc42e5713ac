#include <algorithm>
#include <array>
#include <cstring>

#include <doctest/doctest.h>

#include "tests/apps/path_bench.hpp"

using namespace vitrine;
using test::PathBench;

namespace {

void check_conserved(const PathBench& bench) {
    CHECK(bench.device.transmit_counters(0).frames == bench.sent.frames_to_nic + bench.sent.drop_link_down);
    CHECK(bench.sent.frames_to_nic == bench.sent.copied + bench.sent.zero_copy);
    bench.check_pages_conserved();
}

/// An IGMPv2 report of 239.1.2.3, in a frame long enough for zero copy.
void guest_reports_group(PathBench& bench) {
    constexpr std::array<std::uint8_t, 34 + 8> report{0x01, 0, 0x5e, 1, 2, 3, 2,    0, 0, 0, 0,   1, 0x08, 0,
                                                      0x45, 0, 0,    0, 0, 0, 0,    0, 1, 2, 0,   0, 10,   0,
                                                      0,    1, 239,  1, 2, 3, 0x16, 0, 0, 0, 239, 1, 2,    3};
    const unsigned slot = bench.guest_tx.posted() % PathBench::ring_entries;
    bench.guest_sends(600, std::byte{0});
    std::memcpy(bench.ram.at(PathBench::buffers_at + (1 << 20) + 4096 * slot + 12), report.data(), report.size());
}

}  // namespace

TEST_CASE("by copy a chain is done at once, and the bounce page comes back when the NIC has sent it") {
    PathBench bench;
    bench.connect_guest();
    bench.guest_sends(60, std::byte{0x33});
    CHECK(bench.transmit.poll() != 0);
    CHECK(bench.guest_tx.take_used().has_value());
    const auto fragments = bench.nic_sends();
    REQUIRE(fragments.size() == 1);
    CHECK(fragments[0].bytes == 60);
    CHECK(bench.bounce_memory[fragments[0].iova - PathBench::bounce_iova.raw] == std::byte{0x33});
    CHECK(bench.bounce.available() == bench.bounce.pages() - 1);
    bench.transmit.poll();
    CHECK(bench.bounce.available() == bench.bounce.pages());
    check_conserved(bench);
}

TEST_CASE("the shortest frames are padded with zeros, never with what was in the page before") {
    PathBench bench;
    bench.connect_guest();
    std::ranges::fill(bench.bounce_memory, std::byte{0xee});
    bench.guest_sends(14, std::byte{0x11});
    bench.transmit.poll();
    const auto fragments = bench.nic_sends();
    REQUIRE(fragments.size() == 1);
    CHECK(fragments[0].bytes == 17);
    const std::byte* frame = bench.bounce_memory.data() + (fragments[0].iova - PathBench::bounce_iova.raw);
    CHECK(frame[13] == std::byte{0x11});
    for (int i = 14; i < 17; ++i) CHECK(frame[i] == std::byte{0});
}

TEST_CASE("refused frames are given back and count as work, although no good one follows") {
    PathBench bench;
    bench.connect_guest();
    bench.guest_sends(13, std::byte{1});
    CHECK(bench.transmit.poll() != 0);
    CHECK(bench.guest_tx.take_used().has_value());
    CHECK(bench.device.transmit_counters(0).tx_short == 1);
    CHECK(bench.transmit.poll() == 0);
    check_conserved(bench);
}

TEST_CASE("a NIC that sends nothing stops the guest's ring, not the process, and nothing is lost") {
    PathBench bench;
    bench.connect_guest();
    for (int i = 0; i < 30; ++i) bench.guest_sends(60, std::byte{1});
    for (int turn = 0; turn < 100; ++turn) bench.transmit.poll();
    const std::uint64_t stuck = bench.sent.frames_to_nic;
    CHECK(stuck < 30);
    for (int turn = 0; turn < 10; ++turn) {
        bench.nic_sends();
        bench.transmit.poll();
    }
    CHECK(bench.sent.frames_to_nic == 30);
    check_conserved(bench);
}

TEST_CASE("without a VF the guest's frames are drained and counted, so that it does not hang") {
    PathBench bench;
    bench.connect_guest();
    bench.transmit.detach();
    for (int i = 0; i < 20; ++i) bench.guest_sends(60, std::byte{1});
    bench.transmit.poll();
    CHECK(bench.sent.drop_link_down == 20);
    for (int i = 0; i < 20; ++i) CHECK(bench.guest_tx.take_used().has_value());
    check_conserved(bench);
}

TEST_CASE("zero copy: the NIC reads guest memory, and the chain is done only when it has") {
    PathBench bench(true);
    bench.connect_guest();
    const mem::Iova guest_iova{0x8'0000'0000};
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, guest_iova));
    bench.guest_sends(1000, std::byte{0x10});
    bench.guest_sends(60, std::byte{2});  // small: copied, but behind the first
    bench.guest_sends(1000, std::byte{0x30});
    bench.transmit.poll();
    CHECK_FALSE(bench.guest_tx.take_used().has_value());
    CHECK(bench.transmit.holds_guest_memory());
    const auto fragments = bench.nic_sends();
    REQUIRE(fragments.size() == 3);
    CHECK(fragments[0].iova >= guest_iova.raw);
    CHECK(*bench.ram.at(fragments[0].iova - guest_iova.raw) == std::byte{0x10});
    CHECK(fragments[1].iova < guest_iova.raw);
    bench.transmit.poll();
    for (int i = 0; i < 3; ++i) CHECK(bench.guest_tx.take_used().has_value());
    CHECK(bench.sent.zero_copy == 2);
    CHECK(bench.sent.copied == 1);
    CHECK_FALSE(bench.transmit.holds_guest_memory());
    check_conserved(bench);
}

TEST_CASE("zero copy: memory that is not mapped for DMA is copied") {
    PathBench bench(true);
    bench.connect_guest();
    bench.guest_sends(1000, std::byte{0x10});
    bench.transmit.poll();
    CHECK(bench.sent.copied == 1);
    CHECK(bench.nic_sends()[0].iova < 0x8'0000'0000);
}

TEST_CASE("zero copy: a ring that stops takes back what the NIC has not sent, and sends it again later") {
    PathBench bench(true);
    bench.connect_guest();
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, mem::Iova{0x8'0000'0000}));
    for (int i = 0; i < 3; ++i) bench.guest_sends(1000, std::byte{0x10});
    bench.transmit.poll();
    bench.transmit.roll_back();
    CHECK(bench.sent.repeated == 3);
    CHECK_FALSE(bench.guest_tx.take_used().has_value());
    bench.tx_head = bench.tx_tail = 0;  // the NIC's queue was reset
    bench.transmit.poll();
    CHECK(bench.nic_sends().size() == 3);
    bench.transmit.poll();
    for (int i = 0; i < 3; ++i) CHECK(bench.guest_tx.take_used().has_value());
}

TEST_CASE("zero copy: what the NIC has sent when the ring stops is done, and only the rest is sent again") {
    PathBench bench(true);
    bench.connect_guest();
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, mem::Iova{0x8'0000'0000}));
    for (int i = 0; i < 2; ++i) bench.guest_sends(1000, std::byte{0x10});
    bench.transmit.poll();
    bench.nic_sends();
    bench.guest_sends(1000, std::byte{2});
    bench.transmit.roll_back();  // the third was never taken
    CHECK(bench.sent.repeated == 0);
    for (int i = 0; i < 2; ++i) CHECK(bench.guest_tx.take_used().has_value());
    bench.tx_head = bench.tx_tail = 0;
    bench.transmit.poll();
    CHECK(bench.nic_sends().size() == 1);
    bench.transmit.poll();
    CHECK(bench.guest_tx.take_used().has_value());
    check_conserved(bench);
}

TEST_CASE("zero copy: frames that the NIC held when the VF went are completed, and counted as lost in it") {
    PathBench bench(true);
    bench.connect_guest();
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, mem::Iova{0x8'0000'0000}));
    bench.guest_sends(1000, std::byte{0x10});
    bench.guest_sends(60, std::byte{0x10});
    bench.transmit.poll();
    bench.transmit.detach();
    CHECK(bench.sent.lost_in_nic == 2);
    for (int i = 0; i < 2; ++i) CHECK(bench.guest_tx.take_used().has_value());
    CHECK(bench.bounce.available() == bench.bounce.pages());
    check_conserved(bench);
}

TEST_CASE("a group that the guest reports is heard, by copy and by zero copy alike, and reports are always copied") {
    for (const bool guest_dma : {false, true}) {
        CAPTURE(guest_dma);
        PathBench bench(guest_dma);
        bench.connect_guest();
        REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, mem::Iova{0x8'0000'0000}));
        guest_reports_group(bench);
        bench.transmit.poll();
        CHECK(bench.sent.copied == 1);
        apps::GroupAddress group{};
        REQUIRE(bench.transmit.pop_joined_group(group));
        CHECK(group == apps::GroupAddress{0x01, 0, 0x5e, 1, 2, 3});
        CHECK_FALSE(bench.transmit.pop_joined_group(group));
        bench.nic_sends();
        bench.transmit.poll();
        check_conserved(bench);
    }
}

TEST_CASE("reports that nobody fetches are forgotten when too many wait, and their frames go out all the same") {
    PathBench bench;
    bench.connect_guest();
    for (int round = 0; round < 200; ++round) {
        guest_reports_group(bench);
        bench.transmit.poll();
        bench.nic_sends();
        CHECK(bench.guest_tx.take_used().has_value());
    }
    bench.transmit.poll();
    CHECK(bench.sent.frames_to_nic == 200);
    int heard = 0;
    for (apps::GroupAddress group{}; bench.transmit.pop_joined_group(group);) ++heard;
    CHECK(heard == 64);
    check_conserved(bench);
}
