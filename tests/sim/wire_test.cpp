// Wires: their descriptions, pace, and captures.
#include <set>
#include <stdexcept>

#include <pcap/pcap.h>

#include "tests/sim/simulator_thread.hpp"
#include "tools/vf_sim/generator_wire.hpp"
#include "tools/vf_sim/pcap_wire.hpp"

namespace vitrine::sim_test {
namespace {

using namespace std::chrono_literals;
using vf_sim::GeneratorWire;
using vf_sim::PcapWire;
using vf_sim::Time;

constexpr Time start{std::chrono::seconds(1000)};

std::size_t take_all(vf_sim::Wire& wire, Time now) {
    std::size_t frames = 0;
    for (; !wire.next(now, vf_address).empty(); ++frames) wire.take();
    return frames;
}

}  // namespace

TEST_CASE("a wire that is described wrongly is refused, and the error names what is wrong") {
    for (const char* description :
         {"", "nothing", "null:x", "gen:size=63", "gen:size=9729", "gen:flows=0", "gen:speed=1", "gen:rate",
          "gen:size=64-", "gen:size=128-64", "gen:size=-64", "gen:size=64-9729", "gen:rate=abc", "gen:count=-1",
          "pcap:", "pcap:rate=5", "tap:", "tap:a-name-that-is-too-long"}) {
        CAPTURE(description);
        CHECK_THROWS_AS(vf_sim::make_wire(description), std::invalid_argument);
    }
    CHECK_THROWS_AS(vf_sim::make_wire("pcap:in=/nowhere/at.all"), std::runtime_error);
    CHECK(vf_sim::make_wire("gen:size=64,rate=1000,flows=2,count=5") != nullptr);
    CHECK(vf_sim::make_wire("gen:size=64-9018") != nullptr);
}

TEST_CASE("the generator gives the flows in turn, each with its own sequence, to the address of the VF") {
    GeneratorWire wire({.wire_bytes = 64, .rate = 0, .flows = 3, .count = 7});
    CHECK(wire.waits());
    for (std::uint64_t i = 0; i < 7; ++i) {
        const auto frame = wire.next(start, vf_address);
        CHECK(frame.size() == 60);
        CHECK(wire.next(start, vf_address).data() == frame.data());  // the head stays until it is taken
        const auto stamp = mem::read_test_frame(frame);
        REQUIRE(stamp);
        CHECK(stamp->flow == i % 3);
        CHECK(stamp->sequence == i / 3);
        CHECK(static_cast<std::uint8_t>(frame[5]) == vf_address[5]);
        wire.take();
    }
    CHECK(wire.next(start, vf_address).empty());
    CHECK(wire.done());
}

TEST_CASE("a generator of many sizes gives each of them, both ends too") {
    GeneratorWire wire({.wire_bytes = 64, .most_wire_bytes = 127, .rate = 0, .flows = 1, .count = 1000});
    std::set<std::size_t> sizes;
    while (!wire.done()) {
        const auto frame = wire.next(start, vf_address);
        CHECK(mem::read_test_frame(frame));
        sizes.insert(frame.size());
        wire.take();
    }
    CHECK(sizes.size() == 64);
    CHECK(*sizes.begin() == 60);
    CHECK(*sizes.rbegin() == 123);
}

TEST_CASE("a paced generator keeps its rate, and makes up for a pause by 32 frames at most") {
    GeneratorWire wire({.wire_bytes = 64, .rate = 1'000'000, .flows = 1, .count = {}});
    CHECK_FALSE(wire.waits());
    CHECK(take_all(wire, start) == 1);
    CHECK(wire.due() == start + 1us);
    std::size_t frames = 0;
    for (Time now = start; now < start + 10ms; now += 10us) frames += take_all(wire, now);
    CHECK(frames == 9990);
    CHECK(take_all(wire, start + 5s) == 33);
    CHECK(take_all(wire, start + 5s) == 0);
}

TEST_CASE("the generator tells good, damaged, missing and foreign frames of the VF apart") {
    GeneratorWire wire({});
    std::vector<std::byte> frame(60);
    for (const std::uint64_t sequence : {0, 1, 4, 3}) {
        mem::write_test_frame(frame, GeneratorWire::source, vf_address, {.flow = 1, .sequence = sequence});
        wire.transmit(frame);
    }
    frame[59] ^= std::byte{1};
    wire.transmit(frame);
    frame[42] ^= std::byte{1};
    wire.transmit(frame);
    nlohmann::json status;
    wire.report(status);
    CHECK(status["tx_checked"]["good"] == 4);
    CHECK(status["tx_checked"]["bad"] == 1);
    CHECK(status["tx_checked"]["not_stamped"] == 1);
    CHECK(status["tx_checked"]["out_of_order"] == 1);
}

TEST_CASE("what one capture records another replays, in order, short frames padded, damaged records left out") {
    test::Directory directory;
    const std::string path = directory / "frames.pcap";
    {
        PcapWire recorder({.in = "", .out = path, .rate = 0});
        CHECK(recorder.done());
        CHECK(recorder.next(start, vf_address).empty());
        std::vector<std::byte> frame(1514, std::byte{3});
        recorder.transmit(std::span(frame).first(20));
        recorder.transmit(frame);
        recorder.transmit(std::span(frame).first(10));
    }
    PcapWire player({.in = path, .out = "", .rate = 0});
    CHECK_FALSE(player.done());
    const auto padded = player.next(start, vf_address);
    REQUIRE(padded.size() == 60);
    CHECK(padded[19] == std::byte{3});
    CHECK(padded[20] == std::byte{0});
    player.take();
    CHECK(player.next(start, vf_address).size() == 1514);
    player.take();
    CHECK(player.next(start, vf_address).empty());
    CHECK(player.done());
    nlohmann::json status;
    player.report(status);
    CHECK(status["wire"]["not_replayed"] == 1);
}

}  // namespace vitrine::sim_test
