#include "driver/health.hpp"

#include "driver/queues.hpp"
#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using driver::Health;
using driver::index_of;
using driver::RingProgress;
using driver::Statistics;
using driver::Trouble;
using driver::Troubles;

namespace {

/// A NIC and rings that move as a test says, and a look at them once a second.
struct HealthBench {
    Health health;
    RingProgress rings;
    Statistics counted;
    bool enabled = true;

    HealthBench() { health.begin(rings, counted); }
    void frames(std::uint64_t count, std::uint64_t bytes = 60) {
        counted.rx_frames += count;
        counted.rx_octets += count * (bytes + 4);
    }
    void received(std::uint64_t count, std::uint64_t bytes = 60) {
        rings.received.frames += count;
        rings.received.bytes += count * bytes;
    }
    Troubles look() { return health.look(rings, counted, enabled); }
    bool sees(Trouble trouble) { return look() == Troubles{1u << index_of(trouble)}; }
};

}  // namespace

TEST_CASE("a NIC that moves, or has nothing to move, is in good health") {
    HealthBench bench;
    for (int second = 0; second < 10; ++second) {
        CHECK(bench.look().none());
        bench.frames(5);
        bench.received(5);
        bench.rings.transmit[0].waiting = true;
        ++bench.rings.transmit[0].finished;
    }
}

TEST_CASE("a transmit queue that holds frames and finishes none is stuck at the third look, another one's work aside") {
    HealthBench bench;
    bench.rings.transmit[0] = bench.rings.transmit[1] = {.finished = 7, .waiting = true};
    CHECK(bench.look().none());
    for (int look = 1; look <= 2; ++look) {
        ++bench.rings.transmit[0].finished;
        CHECK(bench.look().none());
    }
    CHECK(bench.sees(Trouble::tx_stuck));
    bench.health.begin(bench.rings, bench.counted);
    CHECK(bench.look().none());
}

TEST_CASE("frames that came and went between two looks do not make a queue look stuck") {
    HealthBench bench;
    bench.rings.transmit[0].waiting = true;
    for (int second = 0; second < 10; ++second) {
        ++bench.rings.transmit[0].finished;
        CHECK(bench.look().none());
    }
    bench.rings.transmit[0].waiting = false;
    for (int second = 0; second < 10; ++second) CHECK(bench.look().none());
}

TEST_CASE("frames that the NIC counts and no ring shows mean a stall at the third such look, however far apart") {
    HealthBench bench;
    for (int frame = 1; frame <= 2; ++frame) {
        bench.frames(1);
        CHECK(bench.look().none());
        CHECK(bench.look().none());  // silence in between proves nothing
    }
    bench.frames(1);
    CHECK(bench.sees(Trouble::rx_stalled));
}

TEST_CASE(
    "a ring whose descriptors are used up and not finished is stalled at the third look, another one's work aside") {
    HealthBench bench;
    for (int look = 1; look <= 2; ++look) {
        bench.rings.receive[0].position += 8;
        bench.rings.receive[1].used_up = true;
        bench.frames(8);
        bench.received(8);
        CHECK(bench.look().none());
    }
    CHECK(bench.sees(Trouble::rx_stalled));
    ++bench.rings.receive[1].position;  // a head that is ahead of a ring that moves means nothing
    CHECK(bench.look().none());
}

TEST_CASE("82599 7.1.7: a head beyond the ring's position tells of used-up descriptors, unless they are finished") {
    tests::VfBench bench;
    bench.vf.reset(tests::fallback_mac);
    RingProgress progress;
    progress.receive[0] = {.position = 64 + 3};
    progress.receive[1] = {.position = 5};
    progress.receive[2] = {.position = 5, .backlog = true};
    bench.nic.reg(driver::VFRDH::at(0)) = 3;
    bench.nic.reg(driver::VFRDH::at(1)) = bench.nic.reg(driver::VFRDH::at(2)) = 9;
    driver::compare_heads(bench.nic, progress, 3, 64);
    CHECK_FALSE(progress.receive[0].used_up);
    CHECK(progress.receive[1].used_up);
    CHECK_FALSE(progress.receive[2].used_up);
}

TEST_CASE("a guest that is slow is not a NIC that stalls") {
    HealthBench bench;
    bench.rings.receive[0].backlog = true;
    for (int second = 0; second < 10; ++second) {
        bench.frames(100);
        CHECK(bench.look().none());
    }
}

TEST_CASE("frames dropped by the NIC, counted or not, are no trouble while others arrive") {
    HealthBench bench;
    for (int second = 0; second < 10; ++second) {
        bench.frames(100);
        bench.received(50);
        CHECK(bench.look().none());
    }
}

TEST_CASE("more frames or bytes than the NIC counted are said once") {
    for (const bool frames : {true, false}) {
        HealthBench bench;
        bench.frames(10);
        frames ? bench.received(11, 10) : bench.received(10, 100);
        CHECK(bench.sees(Trouble::rx_surplus));
        CHECK(bench.look().none());
        bench.frames(10);
        bench.received(10);
        CHECK(bench.look().none());
    }
}

TEST_CASE("what the rings refused is said at the next look") {
    using Counters = driver::RxRing::Counters;
    for (const auto& [counter, trouble] :
         {std::pair{&Counters::bad_descriptors, Trouble::bad_descriptor},
          std::pair{&Counters::errors, Trouble::rx_error}, std::pair{&Counters::out_of_order, Trouble::out_of_order}}) {
        HealthBench bench;
        bench.rings.received.*counter += 3;
        CHECK(bench.sees(trouble));
        CHECK(bench.look().none());
    }
}

TEST_CASE("a queue that is no longer enabled is noticed, and it is the one reason to reset that needs no patience") {
    tests::VfBench bench;
    bench.vf.reset(tests::fallback_mac);
    const driver::RingPlace ring{mem::Iova{0x1'0000}, 64};
    for (unsigned queue = 0; queue < 2; ++queue) {
        driver::start_transmit_queue(bench.nic, bench.clock, queue, ring);
        driver::start_receive_queue(bench.nic, bench.clock, queue, ring, 2);
    }
    CHECK(driver::queues_enabled(bench.nic, 2));
    bench.nic.reg(driver::VFTXDCTL::at(1)) = 0;
    CHECK(driver::queues_enabled(bench.nic, 1));
    CHECK_FALSE(driver::queues_enabled(bench.nic, 2));

    HealthBench health;
    health.enabled = false;
    CHECK(health.sees(Trouble::queue_stopped));
    CHECK(driver::troubles_to_reset[index_of(Trouble::queue_stopped)]);
    CHECK_FALSE(driver::troubles_to_reset[index_of(Trouble::rx_surplus)]);
}
