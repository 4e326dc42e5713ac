#include <doctest/doctest.h>

#include "tests/apps/path_bench.hpp"

using namespace vitrine;
using test::PathBench;

namespace {

std::uint64_t drops(const apps::ReceivePathCounters& counters) {
    return counters.drop_no_guest + counters.drop_no_buffer + counters.drop_held + counters.drop_too_small +
           counters.drop_ring_broken + counters.drop_nic_error + counters.drop_vf_down;
}

void check_conserved(const PathBench& bench) {
    CHECK(bench.received.frames_from_nic == bench.device.receive_counters(0).frames + drops(bench.received));
    bench.check_pages_conserved();
}

}  // namespace

TEST_CASE("a frame reaches the guest with its bytes, one frame and then silence") {
    PathBench bench;
    bench.connect_guest();
    bench.post_receive_buffers(4);
    bench.nic_writes(60, true, std::byte{0x42});
    CHECK(bench.receive.poll() != 0);
    const auto frame = bench.guest_rx.take_frame();
    REQUIRE(frame.has_value());
    CHECK(*frame == std::vector<std::byte>(60, std::byte{0x42}));
    CHECK(bench.receive.poll() == 0);
    check_conserved(bench);
}

TEST_CASE("a frame over several descriptors reaches the guest as one, over several buffers") {
    PathBench bench;
    bench.connect_guest();
    bench.post_receive_buffers(8);
    bench.nic_writes(2048, false, std::byte{1});
    bench.receive.poll();
    CHECK_FALSE(bench.guest_rx.take_frame().has_value());  // its end has not come
    bench.nic_writes(2048, false, std::byte{2});
    bench.nic_writes(100, true, std::byte{3});
    bench.receive.poll();
    const auto frame = bench.guest_rx.take_frame();
    REQUIRE(frame.has_value());
    REQUIRE(frame->size() == 4196);
    CHECK((*frame)[2047] == std::byte{1});
    CHECK((*frame)[2048] == std::byte{2});
    CHECK(frame->back() == std::byte{3});
    check_conserved(bench);
}

TEST_CASE("a guest is called for what it was shown while the poll thread stood still, although the VF has gone since") {
    PathBench bench;
    mem::EventFd call;
    bench.connect_guest();
    bench.device.vring(0).call = mem::duplicate(call.get());
    bench.device.refresh_events(0);
    bench.receive.poll();
    CHECK(mem::drain_event(call.get()));  // that of every start
    bench.post_receive_buffers(4);
    bench.nic_writes(60);
    bench.receive.move();
    bench.device.receive(0)->show();
    bench.receive.detach(bench.rx.release());
    CHECK_FALSE(mem::drain_event(call.get()));
    CHECK(bench.receive.poll() == 0);
    CHECK(mem::drain_event(call.get()));
    CHECK(bench.guest_rx.take_frame().has_value());
}

TEST_CASE("without a guest frames are dropped by that reason, and the NIC's ring goes on") {
    PathBench bench;
    for (int i = 0; i < 500; ++i) {
        bench.nic_writes(60);
        bench.receive.poll();
    }
    CHECK(bench.received.drop_no_guest == 500);
    check_conserved(bench);
}

TEST_CASE("frames wait for guest buffers, and come in order when there are some") {
    PathBench bench;
    bench.connect_guest();
    for (std::uint8_t i = 0; i < 20; ++i) bench.nic_writes(60, true, std::byte{i});
    for (int turn = 0; turn < 10; ++turn) bench.receive.poll();
    CHECK(bench.receive.waiting() == 20);
    CHECK(drops(bench.received) == 0);
    bench.post_receive_buffers(20);
    bench.receive.poll();
    for (std::uint8_t i = 0; i < 20; ++i) CHECK(bench.guest_rx.take_frame()->front() == std::byte{i});
    check_conserved(bench);
}

TEST_CASE("when the NIC's ring is half full frames are dropped and counted, so that it never fills in silence") {
    PathBench bench;
    bench.connect_guest();
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(bench.nic_has_room());
        bench.nic_writes(60);
        bench.receive.poll();
    }
    CHECK(bench.received.drop_no_buffer > 800);
    check_conserved(bench);
    bench.post_receive_buffers(1);
    bench.receive.poll();
    CHECK(bench.guest_rx.take_frame().has_value());
}

TEST_CASE("error bits and impossible lengths drop the whole frame") {
    PathBench bench;
    bench.connect_guest();
    bench.post_receive_buffers(8);
    bench.nic_writes(60, true, std::byte{1}, true);
    bench.nic_writes(0);
    bench.nic_writes(60000);
    bench.nic_writes(2048, false);
    bench.nic_writes(60, true, std::byte{1}, true);
    bench.receive.poll();
    CHECK(bench.received.drop_nic_error == 4);
    CHECK_FALSE(bench.guest_rx.take_frame().has_value());
    check_conserved(bench);
}

TEST_CASE("a frame without end is dropped as one, and the next frame comes through") {
    PathBench bench;
    bench.connect_guest();
    bench.post_receive_buffers(8);
    for (int i = 0; i < 200; ++i) {
        bench.nic_writes(1024, false);
        bench.receive.poll();
    }
    bench.nic_writes(1024, true);
    bench.nic_writes(60, true, std::byte{7});
    bench.receive.poll();
    CHECK(bench.received.drop_nic_error == 1);
    const auto frame = bench.guest_rx.take_frame();
    REQUIRE(frame.has_value());
    CHECK(*frame == std::vector<std::byte>(60, std::byte{7}));
    check_conserved(bench);
}

TEST_CASE("when the VF goes, what waited is dropped and counted, and every page is back") {
    PathBench bench;
    bench.connect_guest();
    for (int i = 0; i < 10; ++i) bench.nic_writes(60);
    bench.receive.poll();
    bench.nic_writes(60);
    bench.nic_writes(2048, false);
    bench.receive.detach(bench.rx.release());
    CHECK(bench.received.drop_vf_down == 11);
    CHECK(bench.packets.available() == bench.packets.pages());
    CHECK(bench.receive.poll() == 0);
    check_conserved(bench);
}

TEST_CASE("a guest that breaks its ring loses its frames by that reason, and the NIC goes on") {
    PathBench bench;
    bench.connect_guest();
    bench.guest_rx.set_available_index(1000);
    for (int i = 0; i < 100; ++i) {
        bench.nic_writes(60);
        bench.receive.poll();
    }
    CHECK(bench.received.drop_ring_broken == 100);
    check_conserved(bench);
}
