#include "virtio/receive_ring.hpp"

#include <array>
#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "tests/virtio/pages_bench.hpp"

using namespace vitrine;
using virtio::Delivery;

namespace {

struct Bench {
    Bench() { memory.drivers[0]->start(test::PagesMemory::marker()); }
    test::VrxDriver& driver() { return *memory.drivers[0]; }
    Delivery copy() {
        const std::array<std::byte, 60> frame{};
        return ring.deliver(std::array{std::span<const std::byte>(frame)}, {});
    }

    test::PagesMemory memory{{}};
    test::PagesDevice<> device{memory};
    virtio::ReceiveRing ring{memory.memory, device.ring(0), {true, false, &device.lending, 0}, device.counters[0]};
};

}  // namespace

TEST_CASE("VRX 7.1: a frame that meets the first credits waits for the next burst, and is lent then") {
    Bench bench;
    REQUIRE(!bench.ring.lends());
    CHECK(bench.copy() == Delivery::no_buffer);
    bench.driver().give_credits(4);
    CHECK(bench.copy() == Delivery::no_buffer);
    CHECK_FALSE(bench.ring.broken());
    CHECK(bench.ring.lends());
    CHECK(bench.device.counters[0].rx_no_buffer_tries == 2);
    CHECK(bench.device.counters[0].rx_broken_ring == 0);
}

TEST_CASE("VRX 7.1: no credit breaks a ring that is about to be looked at") {
    for (int round = 0; round < 2000; ++round) {
        Bench bench;
        std::atomic<bool> polled = false;
        std::thread poll([&] {
            while (!bench.ring.lends() && !bench.ring.broken()) {
                bench.copy();
                polled = true;
            }
        });
        while (!polled) {
        }
        bench.driver().give_credits(8);
        poll.join();
        REQUIRE_FALSE(bench.ring.broken());
        REQUIRE(bench.device.counters[0].rx_broken_ring == 0);
    }
}
