// vf_sim and the driver against each other, through a real socket and in both doorbell modes.
#include <system_error>

#include "tests/sim/driver_bench.hpp"

namespace vitrine::sim_test {
namespace {

using namespace std::chrono_literals;

/// Receives stamped frames until `count` are there.
struct Receiver {
    DriverBench& bench;
    mem::SequenceCheck check{};
    std::uint64_t bad = 0;

    bool until(std::uint64_t count) {
        return eventually([&] {
            bench.receive([&](std::span<const std::byte> frame) {
                if (const auto stamp = mem::read_test_frame(frame))
                    check.accept(*stamp);
                else
                    ++bad;
            });
            return check.in_order() >= count;
        });
    }
};

void send_frames(DriverBench& bench, std::uint64_t count, std::size_t bytes, std::size_t piece_bytes = 16384) {
    for (std::uint64_t sequence = 0; sequence < count; ++sequence) {
        const auto fill = [&](std::span<std::byte> frame) {
            mem::write_test_frame(frame, {0x02, 0, 0, 0, 0, 9}, vf_address, {.flow = 0, .sequence = sequence});
        };
        if (bench.send(bytes, fill, piece_bytes)) continue;
        bench.flush();
        REQUIRE(eventually([&] { return bench.send(bytes, fill, piece_bytes); }));
    }
    bench.flush();
    REQUIRE(eventually([&] {
        bench.reclaim();
        return bench.in_flight() == 0;
    }));
}

}  // namespace

TEST_CASE("the driver comes up on the simulator and learns who it is") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        vf_sim::Policy policy;
        policy.queues = 4;
        SimulatorThread simulator("null", mapped, policy);
        DriverBench bench(simulator.socket_path());
        CHECK(bench.device().has_mapped_tails() == mapped);
        CHECK(bench.identity().mac == vf_address);
        CHECK(bench.identity().mac_from_pf);
        CHECK(bench.identity().api == driver::MailboxApi::v1_3);
        CHECK(bench.identity().rx_queues == 4);
        CHECK(bench.vf().link().up);
        CHECK(bench.vf().link().speed_mbps == 10'000);
        CHECK(bench.vf().watch() == driver::Watch::steady);
        const auto status = simulator.status();
        CHECK(status["vf"]["rx_queues_enabled"] == 1);
        CHECK(status["vf"]["tx_queues_enabled"] == 1);
        CHECK(status["faults"]["mailbox_lost"] == 0);
    }
}

TEST_CASE("ten thousand frames arrive in order, by mapped and by trapped doorbells") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:size=64,flows=3,count=10000", mapped);
        DriverBench bench(simulator.socket_path());
        Receiver receiver{bench};
        CHECK(receiver.until(10000));
        CHECK(receiver.bad == 0);
        CHECK(receiver.check.lost() == 0);
        CHECK(receiver.check.out_of_order() == 0);
        const auto status = simulator.status();
        CHECK(status["done"] == true);
        CHECK(status["wire"]["offered"] == 10000);
        CHECK(status["wire"]["rx_delivered"] == 10000);
        CHECK(bench.device().load(driver::VFGPRC::at()) == 10000);
        CHECK(bench.device().load(driver::VFGORC_LSB::at()) == 640000);
    }
}

TEST_CASE("ten thousand frames are sent, and completed, by mapped and by trapped doorbells") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:count=0", mapped);
        DriverBench bench(simulator.socket_path());
        send_frames(bench, 10000, 60);
        const auto status = simulator.status();
        CHECK(status["tx_checked"]["good"] == 10000);
        CHECK(status["tx_checked"]["bad"] == 0);
        CHECK(status["tx_checked"]["lost"] == 0);
        CHECK(status["tx"]["bytes"] == 600000);
        CHECK(bench.device().load(driver::VFGPTC::at()) == 10000);
        CHECK(bench.device().load(driver::VFGOTC_LSB::at()) == 640000);
    }
}

TEST_CASE("one frame and then silence completes on both sides") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:count=1", mapped);
        DriverBench bench(simulator.socket_path());
        Receiver receiver{bench};
        CHECK(receiver.until(1));
        send_frames(bench, 1, 1514);
        CHECK(simulator.status()["tx_checked"]["good"] == 1);
    }
}

TEST_CASE("a jumbo frame chains over 2 KiB buffers, and is gathered from pieces") {
    vf_sim::Policy policy;
    policy.mtu_bytes = 9000;
    SimulatorThread simulator("gen:size=9018,count=1000", true, policy);
    {
        DriverBench bench(simulator.socket_path(), 2048, 9000);
        Receiver receiver{bench};
        CHECK(receiver.until(1000));
        CHECK(receiver.bad == 0);
        CHECK(receiver.check.lost() == 0);
        CHECK(simulator.status()["wire"]["rx_delivered_bytes"] == 1000 * 9014);
    }
    DriverBench bench(simulator.socket_path(), 16384, 9000);
    send_frames(bench, 500, 9014, 1000);
    CHECK(simulator.status()["tx_checked"]["good"] == 500);
    CHECK(simulator.status()["tx_checked"]["bad"] == 0);
}

TEST_CASE("queues stop and start twenty times under traffic and nothing is lost or written late") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:size=128", mapped);
        DriverBench bench(simulator.socket_path());
        Receiver receiver{bench};
        for (int round = 1; round <= 20; ++round) {
            REQUIRE(receiver.until(receiver.check.in_order() + 200));
            bench.stop_queues();
            bench.receive([&](std::span<const std::byte> frame) {  // what had come before the stop
                if (const auto stamp = mem::read_test_frame(frame)) receiver.check.accept(*stamp);
            });
            CHECK(bench.receive([](auto) {}) == 0);
            const auto status = simulator.status();
            CHECK(status["wire"]["rx_delivered"] == receiver.check.in_order());
            CHECK(status["vf"]["rx_queues_enabled"] == 0);
            bench.start_queues();
        }
        CHECK(receiver.bad == 0);
        CHECK(receiver.check.lost() == 0);
        CHECK(simulator.status()["faults"]["dma_unmapped"] == 0);
    }
}

TEST_CASE("a reset of the PF is seen, survived, and traffic comes back") {
    SimulatorThread simulator("gen:size=256");
    DriverBench bench(simulator.socket_path());
    Receiver receiver{bench};
    REQUIRE(receiver.until(100));
    simulator.command("pf-reset 60");
    CHECK(bench.vf().watch() == driver::Watch::reset_needed);
    CHECK(eventually([&] {
        try {
            bench.start();
            return true;
        } catch (const std::system_error&) {  // the PF is still away
            return false;
        }
    }));
    CHECK(bench.vf().watch() == driver::Watch::steady);
    CHECK(receiver.until(receiver.check.in_order() + 1000));
    CHECK(receiver.bad == 0);
}

TEST_CASE("the link goes down and comes back: nothing moves meanwhile, and the driver knows") {
    SimulatorThread simulator("gen:size=64");
    DriverBench bench(simulator.socket_path());
    Receiver receiver{bench};
    REQUIRE(receiver.until(100));
    simulator.command("link down");
    CHECK(bench.vf().watch() == driver::Watch::link_changed);
    CHECK_FALSE(bench.vf().link().up);
    const auto sent_before = simulator.status()["tx"]["frames"];
    bench.send(60, [](std::span<std::byte> frame) { mem::write_test_frame(frame, {}, vf_address, {0, 0}); });
    bench.flush();
    bench.receive([](auto) {});
    CHECK(bench.receive([](auto) {}) == 0);
    CHECK(simulator.status()["tx"]["frames"] == sent_before);
    CHECK(bench.in_flight() == 1);

    simulator.command("link up");
    CHECK(bench.vf().watch() == driver::Watch::link_changed);
    CHECK(bench.vf().link().up);
    CHECK(receiver.until(receiver.check.in_order() + 100));
    CHECK(eventually([&] {
        bench.reclaim();
        return bench.in_flight() == 0;
    }));
}

TEST_CASE("when the simulator ends, the driver's calls fail by name and its doorbells do nothing") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("null", mapped);
        DriverBench bench(simulator.socket_path());
        simulator.end();
        CHECK(mem::wait_readable(bench.device().descriptor(), 5s));
        bench.send(60, [](std::span<std::byte> frame) { mem::write_test_frame(frame, {}, vf_address, {0, 0}); });
        bench.flush();
        CHECK_THROWS_AS(bench.vf().watch(), std::system_error);
    }
}

TEST_CASE("a client that goes makes room for the next, which finds a clean function") {
    SimulatorThread simulator("gen:size=64");
    for (int client = 0; client < 5; ++client) {
        DriverBench bench(simulator.socket_path());
        Receiver receiver{bench};
        // What the one before had received and not looked at is lost with it; so the first number is not 0.
        CHECK(receiver.until(500));
        CHECK(receiver.bad == 0);
    }
    CHECK(eventually([&] { return simulator.status()["connected"] == false; }));
    const auto status = simulator.status();
    CHECK(status["sessions"]["accepted"] == 5);
    CHECK(status["sessions"]["malformed"].empty());
    CHECK(status["wire"]["offered"].get<std::uint64_t>() ==
          status["wire"]["rx_delivered"].get<std::uint64_t>() + dropped(status));
}

TEST_CASE("while the link is down each frame that the wire offers is counted as that, and as nothing else") {
    SimulatorThread simulator("gen:size=64,rate=20000");
    DriverBench bench(simulator.socket_path());
    Receiver receiver{bench};
    CHECK(receiver.until(500));
    simulator.command("link down");
    const auto number = [](const nlohmann::json& value) { return value.get<std::uint64_t>(); };
    const auto before = simulator.status();
    CHECK(eventually([&] { return number(simulator.status()["drops"]["link_down"]) > 100; }));
    const auto after = simulator.status();
    CHECK(after["wire"]["rx_delivered"] == before["wire"]["rx_delivered"]);
    CHECK(number(after["wire"]["offered"]) - number(before["wire"]["offered"]) ==
          number(after["drops"]["link_down"]) - number(before["drops"]["link_down"]));
    CHECK(number(after["wire"]["offered"]) == number(after["wire"]["rx_delivered"]) + dropped(after));
}

TEST_CASE("an armed vector wakes a sleeper once, in both directions") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:size=64,rate=200", mapped);
        DriverBench bench(simulator.socket_path());
        const mem::EventFd queue, mailbox;
        bench.device().set_interrupts(std::array{queue.get(), mailbox.get()});
        driver::route_interrupts(bench.device(), 1);
        driver::QueueInterrupt interrupt(bench.device().doorbell(driver::VTEIMS::at()));
        for (int round = 0; round < 5; ++round) {
            bench.receive([](auto) {});
            queue.drain();
            REQUIRE(interrupt.arm());
            CHECK(mem::wait_readable(queue.get(), 5s));
        }
        driver::arm_mailbox_interrupt(bench.device());
        simulator.command("link down");
        CHECK(mem::wait_readable(mailbox.get(), 5s));
        CHECK(bench.vf().watch() == driver::Watch::link_changed);
    }
}

}  // namespace vitrine::sim_test
