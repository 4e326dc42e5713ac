// What the end of a tunnel costs: nanoseconds of the receive and of the transmit path for one frame, with and without
// --tunnel, all in one run. NIC and guest are those of the path tests and are not on the clock; the frames are the same
// 50 bytes longer on the wire.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "apps/frame/outer_writer.hpp"
#include "apps/vitrine/tunnel.hpp"
#include "tests/apps/lending_bench.hpp"
#include "tests/support/frames.hpp"

using namespace vitrine;
using apps::Encapsulation;
using test::Bytes;
using test::LendingBench;
using test::operator+;
using test::PathBench;

namespace {

constexpr unsigned burst = 32, bursts = 10'000;
constexpr apps::MacAddress own{2, 0, 0, 0, 0, 1}, remote_mac{2, 0, 0, 0, 0, 2};
const mem::Iova guest_iova{0x8'0000'0000};

/// None, or one of a kind.
std::optional<apps::Tunnel>& make_tunnel(std::optional<apps::Tunnel>& tunnel, const std::string& kind) {
    if (kind == "none") return tunnel;
    const bool vxlan = kind == "vxlan";
    tunnel.emplace(apps::TunnelOptions{
        .ends = apps::TunnelEnds{vxlan ? Encapsulation::vxlan : Encapsulation::geneve, 42,
                                 vxlan ? apps::vxlan_port : apps::geneve_port, test::ipv4(1), test::ipv4(2)},
        .vlan = {},
        .gateway = {},
        .next_hop_mac = remote_mac});
    tunnel->start(own);
    return tunnel;
}

Bytes from_wire(const std::optional<apps::Tunnel>& tunnel, std::size_t bytes) {
    Bytes inner(bytes, std::byte{0x42});
    if (!tunnel) return inner;
    apps::TunnelEnds ends = *tunnel->options().ends;
    std::swap(ends.local, ends.remote);
    const apps::OuterWriter writer(ends, remote_mac);
    Bytes frame(writer.bytes());
    writer.write(frame.data(), own, bytes, 7);
    return frame + inner;
}

/// The median of many bursts: one that was interrupted does not count. `turn` moves one burst of `frames` and times it.
double median_nanoseconds(unsigned frames, const std::function<std::chrono::nanoseconds()>& turn) {
    std::vector<std::chrono::nanoseconds> spent(bursts);
    for (auto& one : spent) one = turn();
    const auto middle = spent.begin() + bursts / 2;
    std::ranges::nth_element(spent, middle);
    return static_cast<double>(middle->count()) / frames;
}

std::chrono::nanoseconds timed(const std::function<void()>& what) {
    const auto begin = std::chrono::steady_clock::now();
    what();
    return std::chrono::steady_clock::now() - begin;
}

double receive_by_copy(const std::string& kind, std::uint32_t bytes) {
    std::optional<apps::Tunnel> storage;
    auto& tunnel = make_tunnel(storage, kind);
    PathBench bench(false, tunnel ? &*tunnel : nullptr);
    bench.connect_guest();
    const Bytes frame = from_wire(tunnel, bytes);
    const double cost = median_nanoseconds(burst, [&] {
        bench.post_receive_buffers(burst);
        for (unsigned i = 0; i < burst; ++i) bench.nic_writes(frame);
        const auto spent = timed([&] { bench.receive.poll(); });
        for (unsigned i = 0; i < burst; ++i) bench.guest_rx.take_used();
        return spent;
    });
    CHECK(bench.received.copied == bursts * burst);
    return cost;
}

double receive_in_pages(const std::string& kind, std::uint32_t bytes) {
    std::optional<apps::Tunnel> storage;
    auto& tunnel = make_tunnel(storage, kind);
    LendingBench bench(true, virtio::vrx::Mode::pages, tunnel ? &*tunnel : nullptr);
    const Bytes frame = from_wire(tunnel, bytes);
    const double cost = median_nanoseconds(burst, [&] {
        for (unsigned i = 0; i < burst; ++i) bench.nic_writes(frame);
        const auto spent = timed([&] { bench.receive.poll(); });
        while (const auto element = bench.driver.take()) {
            bench.driver.give_back(element->word.page());
            bench.driver.give_credits(1);
        }
        bench.driver.publish_returns();
        return spent;
    });
    CHECK(bench.received.lent == bursts * burst);
    CHECK(bench.driver.breach == "");
    return cost;
}

double transmit(const std::string& kind, std::uint32_t bytes, bool guest_dma) {
    std::optional<apps::Tunnel> storage;
    auto& tunnel = make_tunnel(storage, kind);
    PathBench bench(guest_dma, tunnel ? &*tunnel : nullptr);
    bench.connect_guest();
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, guest_iova));
    constexpr unsigned few = burst / 4;  // with a context and two descriptors each they fit the ring of the tests
    return median_nanoseconds(few, [&] {
        for (unsigned i = 0; i < few; ++i) bench.guest_sends(bytes, std::byte{0x44});
        auto spent = timed([&] { bench.transmit.poll(); });
        bench.nic_sends();
        spent += timed([&] { bench.transmit.poll(); });
        while (bench.guest_tx.take_used()) {
        }
        return spent;
    });
}

}  // namespace

TEST_CASE("nanoseconds for each frame with and without a tunnel") {
    std::printf("%-28s %8s %8s %8s\n", "path, bytes of the inner frame", "none", "vxlan", "geneve");
    const auto row = [](const char* name, std::uint32_t bytes, const auto& measure) {
        std::printf("%-22s %7u %8.1f %8.1f %8.1f\n", name, bytes, measure("none", bytes), measure("vxlan", bytes),
                    measure("geneve", bytes));
    };
    for (const std::uint32_t bytes : {60u, 1450u}) {
        row("receive, copy", bytes, receive_by_copy);
        row("receive, pages", bytes, receive_in_pages);
        row("transmit, copy", bytes, [](const std::string& kind, std::uint32_t b) { return transmit(kind, b, false); });
    }
    row("transmit, zero copy", 1450, [](const std::string& kind, std::uint32_t b) { return transmit(kind, b, true); });
}
