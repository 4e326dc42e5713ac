// Several functions on one port: which way frames go, and whose books they are in.
#include "tools/vf_sim/switch.hpp"

#include "tests/sim/driver_bench.hpp"
#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {
namespace {

using driver::MessageType;
using driver::ReceiveMode;
using mem::EthernetAddress;

constexpr EthernetAddress first{0x02, 0x56, 0x46, 0, 0, 1}, second{0x02, 0x56, 0x46, 0, 0, 2},
    third{0x02, 0x56, 0x46, 0, 0, 3}, outside{0x02, 0, 0, 0, 0, 9}, broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

vf_sim::Policy with_mac(const EthernetAddress& mac) {
    vf_sim::Policy policy;
    policy.part = vf_sim::Part::x550;
    policy.mac = mac;
    policy.trusted = policy.promiscuous = true;
    return policy;
}

/// Three functions that have said RESET, and the switch over them.
struct SwitchBench {
    VfBench a{with_mac(first)}, b{with_mac(second)}, c{with_mac(third)};
    vf_sim::Switch bridge;

    SwitchBench() {
        for (VfBench* bench : {&a, &b, &c}) {
            bench->reset();
            bridge.add(bench->vf.pf());
        }
    }
    /// As text: which functions, and "w" for the wire.
    std::string from_a(const std::vector<std::byte>& frame) {
        const auto route = bridge.route(0, vf_sim::FrameView(frame));
        std::string result;
        for (std::size_t i = 0; i < route.functions.size(); ++i)
            if (route.functions[i]) result += static_cast<char>('a' + i);
        return result + (route.to_wire ? "w" : "");
    }
};

}  // namespace

TEST_CASE("7.10.3: unicast between functions stays inside, unknown unicast goes to the wire") {
    SwitchBench bench;
    CHECK(bench.from_a(VfBench::frame(second)) == "b");
    CHECK(bench.from_a(VfBench::frame(third)) == "c");
    CHECK(bench.from_a(VfBench::frame(outside)) == "w");
}

TEST_CASE("7.10.3: no frame comes back to its sender") {
    SwitchBench bench;
    CHECK(bench.from_a(VfBench::frame(first)) == "");
    bench.a.ask(MessageType::update_receive_mode, std::to_underlying(ReceiveMode::promiscuous));
    CHECK(bench.from_a(VfBench::frame(broadcast)) == "bcw");
    CHECK(bench.from_a(VfBench::frame(outside)) == "w");
}

TEST_CASE("7.10.3: broadcast goes to every other function and to the wire, multicast to those that joined") {
    SwitchBench bench;
    const EthernetAddress group{0x01, 0x00, 0x5e, 0x00, 0x12, 0x34};
    CHECK(bench.from_a(VfBench::frame(broadcast)) == "bcw");
    CHECK(bench.from_a(VfBench::frame(group)) == "w");
    bench.c.ask(MessageType::update_receive_mode, std::to_underlying(ReceiveMode::all_multicast));
    CHECK(bench.from_a(VfBench::frame(group)) == "cw");
}

TEST_CASE("7.10.3: a tagged frame reaches the members of its VLAN only, and stays inside only with them") {
    SwitchBench bench;
    const auto to_second = VfBench::tagged(VfBench::frame(second), 0x6000 | 7);
    CHECK(bench.from_a(to_second) == "w");
    bench.b.ask(MessageType::set_vlan, 7, 1);
    CHECK(bench.from_a(to_second) == "b");
    CHECK(bench.from_a(VfBench::tagged(VfBench::frame(broadcast), 7)) == "bw");
}

TEST_CASE("7.10.3: a promiscuous function gets a copy of what stays inside and of what leaves") {
    SwitchBench bench;
    bench.c.ask(MessageType::update_receive_mode, std::to_underlying(ReceiveMode::promiscuous));
    CHECK(bench.from_a(VfBench::frame(second)) == "bc");
    CHECK(bench.from_a(VfBench::frame(outside)) == "cw");
}

TEST_CASE("a function in reset has no filters: what is sent to it leaves by the wire") {
    SwitchBench bench;
    bench.b.put(driver::VFCTRL{}.with(driver::VFCTRL::reset, 1));
    CHECK(bench.from_a(VfBench::frame(second)) == "w");
    CHECK(bench.from_a(VfBench::frame(broadcast)) == "cw");
}

TEST_CASE("7.1.5.2: LB says that a frame came from another function") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(4);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own), vf_sim::Origin::function) == vf_sim::RxOutcome::delivered);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own), vf_sim::Origin::wire) == vf_sim::RxOutcome::delivered);
    CHECK(driver::RxDone{{bench.rx(0).done}}.get(driver::RxDone::loopback) == 1);
    CHECK(driver::RxDone{{bench.rx(1).done}}.get(driver::RxDone::loopback) == 0);
}

TEST_CASE("two drivers on one port: each frame is in exactly one of the port's books and one of each receiver's") {
    for (const bool mapped : {true, false}) {
        CAPTURE(mapped);
        SimulatorThread simulator("gen:count=0", mapped, {}, 2);
        DriverBench a(simulator.socket_path(0)), b(simulator.socket_path(1));
        REQUIRE(a.identity().mac == first);
        REQUIRE(b.identity().mac == second);
        constexpr std::uint64_t count = 300;
        std::uint64_t arrived = 0, bad = 0;
        const auto receive_b = [&] {
            b.receive([&](std::span<const std::byte> frame) {
                ++arrived;
                bad += !mem::read_test_frame(frame).has_value();
            });
        };
        for (std::uint64_t sequence = 0; sequence < count; ++sequence) {
            const EthernetAddress to = sequence % 3 == 0 ? second : sequence % 3 == 1 ? broadcast : outside;
            const auto fill = [&](std::span<std::byte> frame) {
                mem::write_test_frame(frame, to, first, {0, sequence});
            };
            REQUIRE(eventually([&] {
                receive_b();
                const bool sent = a.send(200, fill);
                a.flush();
                return sent;
            }));
        }
        REQUIRE(eventually([&] {
            a.reclaim();
            receive_b();
            return a.in_flight() == 0 && arrived == 2 * count / 3;
        }));
        CHECK(bad == 0);
        CHECK(a.receive([](auto) {}) == 0);

        const auto status = simulator.status();
        CHECK(status["tx"]["frames"] == count);  // the port's object carries function 0
        CHECK(status["vfs"][0]["tx"]["to_wire"] == 2 * count / 3);
        CHECK(status["tx_checked"]["good"] == 2 * count / 3);
        CHECK(status["vfs"][0]["switched"]["offered"] == 0);
        CHECK(status["vfs"][1]["switched"]["offered"] == 2 * count / 3);
        CHECK(status["vfs"][1]["switched"]["delivered"] == arrived);
        CHECK(status["vfs"][1]["wire"]["offered"] == 0);
        CHECK(b.device().load(driver::VFGPRC::at()) == arrived);
    }
}

TEST_CASE("a frame from the wire goes to the function that takes it, and is counted as filtered by the other") {
    SimulatorThread simulator("gen:size=64,count=500", true, {}, 2);
    DriverBench b(simulator.socket_path(1));
    DriverBench a(simulator.socket_path(0));
    std::uint64_t arrived = 0;
    CHECK(eventually([&] {
        a.receive([&](auto) { ++arrived; });
        return arrived == 500;
    }));
    CHECK(b.receive([](auto) {}) == 0);
    const auto status = simulator.status();
    CHECK(status["wire"]["offered"] == 500);
    CHECK(status["vfs"][0]["wire"]["rx_delivered"] == 500);
    CHECK(status["vfs"][1]["drops"]["filtered_mac"] == 500);
}

TEST_CASE("a switched frame that finds no descriptor is counted with its receiver, and the sender's is done") {
    SimulatorThread simulator("null", true, {}, 2);
    DriverBench a(simulator.socket_path(0)), b(simulator.socket_path(1));
    constexpr std::uint64_t count = 2 * DriverBench::ring_slots;  // and b looks at none of them
    for (std::uint64_t sequence = 0; sequence < count; ++sequence) {
        const auto fill = [&](std::span<std::byte> frame) {
            mem::write_test_frame(frame, second, first, {0, sequence});
        };
        REQUIRE(eventually([&] {
            const bool sent = a.send(60, fill);
            a.flush();
            return sent;
        }));
    }
    REQUIRE(eventually([&] {
        a.reclaim();
        return a.in_flight() == 0;
    }));
    const auto switched = simulator.status()["vfs"][1]["switched"];
    CHECK(switched["offered"] == count);
    CHECK(switched["delivered"] == DriverBench::ring_slots - 1);
    CHECK(switched["drops"]["no_descriptor"] == count - (DriverBench::ring_slots - 1));
}

}  // namespace vitrine::sim_test
