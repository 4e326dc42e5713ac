#include "driver/queues.hpp"

#include <algorithm>
#include <system_error>

#include "driver/interrupts.hpp"
#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using namespace std::chrono_literals;
using namespace vitrine::driver;

namespace {

struct QueueBench : tests::VfBench {
    QueueBench() {
        vf.reset(tests::fallback_mac);
        nic.history.clear();
    }
};

constexpr RingPlace ring{mem::Iova{0x1'2345'6780}, 512};

}  // namespace

TEST_CASE("82599 4.6.7: a receive queue is programmed while disabled, and live before its first tail") {
    QueueBench bench;
    start_receive_queue(bench.nic, bench.clock, 1, ring, 10);
    CHECK(bench.nic.reg(VFRDBAL::at(1)) == 0x2345'6780);
    CHECK(bench.nic.reg(VFRDBAH::at(1)) == 1);
    CHECK(bench.nic.reg(VFRDLEN::at(1)) == 512 * 16);
    const VFSRRCTL buffers{{bench.nic.reg(VFSRRCTL::at(1))}};
    CHECK(buffers.get(VFSRRCTL::packet_buffer_kib) == 10);
    CHECK(buffers.get(VFSRRCTL::drop_enable) == 1);
    CHECK((bench.nic.reg(VFRXDCTL::at(1)) & VFRXDCTL::enable.mask) != 0);
    bench.nic.store(VFRDT::at(1), 511);  // the fake objects to a tail before ENABLE
}

TEST_CASE("a receive queue can be restarted with another ring") {
    QueueBench bench;
    start_receive_queue(bench.nic, bench.clock, 0, ring, 2);
    start_receive_queue(bench.nic, bench.clock, 0, {mem::Iova{0x8000}, 64}, 2);
    CHECK(bench.nic.reg(VFRDLEN::at(0)) == 64 * 16);
}

TEST_CASE("82599 7.2.3.4: a transmit queue reports each RS at once") {
    QueueBench bench;
    start_transmit_queue(bench.nic, bench.clock, 0, ring);
    const VFTXDCTL control{{bench.nic.reg(VFTXDCTL::at(0))}};
    CHECK(control.get(VFTXDCTL::write_back_threshold) == 0);
    CHECK(control.get(VFTXDCTL::prefetch_threshold) == 32);
    CHECK(control.get(VFTXDCTL::host_threshold) == 1);
    CHECK(control.get(VFTXDCTL::enable) == 1);
}

TEST_CASE("a queue that does not start or stop is a named error") {
    QueueBench bench;
    bench.nic.stuck = true;
    CHECK_THROWS_AS(start_receive_queue(bench.nic, bench.clock, 0, ring, 2), std::system_error);
    CHECK_THROWS_AS(start_transmit_queue(bench.nic, bench.clock, 0, ring), std::system_error);
    bench.nic.stuck = false;
    QueueBench other;
    start_receive_queue(other.nic, other.clock, 0, ring, 2);
    other.nic.stuck = true;
    CHECK_THROWS_AS(stop_receive_queue(other.nic, other.clock, 0), std::system_error);
}

TEST_CASE("82599 4.6.7.1.2: a stopped receive queue gets 100 us more before its pages are ours") {
    QueueBench bench;
    start_receive_queue(bench.nic, bench.clock, 0, ring, 2);
    bench.nic.loads_until_ready = 0;
    const auto before = bench.clock.now();
    stop_receive_queue(bench.nic, bench.clock, 0);
    CHECK((bench.nic.reg(VFRXDCTL::at(0)) & VFRXDCTL::enable.mask) == 0);
    CHECK(bench.clock.now() - before >= 100us);
}

TEST_CASE("a transmit queue drains before it stops, but not for ever") {
    QueueBench bench;
    start_transmit_queue(bench.nic, bench.clock, 0, ring);
    bench.nic.store(VFTDT::at(0), 3);
    bench.nic.scripted_loads[VFTDH::at(0)] = {0, 1, 2, 3};
    CHECK(stop_transmit_queue(bench.nic, bench.clock, 0, 50ms));

    start_transmit_queue(bench.nic, bench.clock, 0, ring);
    bench.nic.store(VFTDT::at(0), 3);
    const auto before = bench.clock.now();
    CHECK_FALSE(stop_transmit_queue(bench.nic, bench.clock, 0, 50ms));
    CHECK(bench.clock.now() - before < 70ms);
    CHECK((bench.nic.reg(VFTXDCTL::at(0)) & VFTXDCTL::enable.mask) == 0);
}

TEST_CASE("receive spreads over as many queues as asked") {
    QueueBench bench;
    for (const auto& [queues, log2] : {std::pair{1u, 0u}, {2u, 1u}, {4u, 2u}}) {
        spread_receive(bench.nic, queues);
        CHECK(bench.nic.reg(VFPSRTYPE::at()) == log2 << 29);
    }
}

TEST_CASE("queues interrupt on vector 0, the mailbox on vector 1, each once per arming") {
    QueueBench bench;
    CHECK_FALSE(interrupts_routed(bench.nic));  // as after a reset
    route_interrupts(bench.nic, 3);
    CHECK(interrupts_routed(bench.nic));
    CHECK(bench.nic.reg(VTIVAR::at(0)) == 0x8080'8080);
    CHECK(bench.nic.reg(VTIVAR::at(1)) == 0x0000'8080);
    CHECK(bench.nic.reg(VTIVAR::at(2)) == 0);
    CHECK(bench.nic.reg(VTIVAR_MISC::at()) == 0x81);
    CHECK(bench.nic.reg(VTEIAM::at()) == 3);
    CHECK(bench.nic.reg(VTEIAC::at()) == 3);
    CHECK(bench.nic.reg(VTEIMS::at()) == 0);
    arm_mailbox_interrupt(bench.nic);
    CHECK(bench.nic.reg(VTEIMS::at()) == 2);

    std::uint32_t mask_set = 0;
    QueueInterrupt interrupt{Doorbell(&mask_set)};
    CHECK(interrupt.arm());
    CHECK(mask_set == 1);
}
