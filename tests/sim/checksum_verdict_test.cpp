// What a receive descriptor says of checksums (82599 data sheet, 7.1.11).
#include <cstring>

#include "tests/sim/packets.hpp"
#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/checksums.hpp"

namespace vitrine::sim_test {

using namespace driver;
using vf_sim::Part;

namespace {

/// With both checksums right.
Bytes true_packet(const PacketShape& shape) {
    Bytes packet = make_packet(shape, VfBench::own, {2, 0, 0, 0, 0, 9});
    if (shape.ipv4) set_16(packet, 24, ~slow_sum(std::span(packet).subspan(14, 20)));
    const auto l4 = std::span(packet).subspan(shape.l4_at());
    if (shape.protocol == 132) {
        const std::uint32_t checksum = vf_sim::sctp_checksum(l4);
        std::memcpy(&packet[shape.checksum_at()], &checksum, sizeof(checksum));
    } else {
        set_16(packet, shape.checksum_at(), ~slow_sum(l4, pseudo_sum(shape, packet, l4.size())));
    }
    return packet;
}

/// The bits as one number: IPCS 1, L4CS 2, UDPCS 4, UDPV 8, IPE 16, L4E 32.
unsigned verdict(std::span<const std::byte> packet, Part part = Part::x550) {
    const RxDone bits = vf_sim::checksum_verdict(vf_sim::FrameView(packet), part);
    return static_cast<unsigned>(bits.get(RxDone::ip_checked) | bits.get(RxDone::l4_checked) << 1 |
                                 bits.get(RxDone::udp_checked) << 2 | bits.get(RxDone::udp_valid) << 3 |
                                 bits.get(RxDone::ip_error) << 4 | bits.get(RxDone::l4_error) << 5);
}
constexpr unsigned ipcs = 1, l4cs = 2, udpcs = 4, udpv = 8, ipe = 16, l4e = 32;

}  // namespace

TEST_CASE("IPv4 has IPCS, TCP and SCTP L4CS, UDP also UDPCS; wrong sums have their error bit beside") {
    for (const bool ipv4 : {true, false}) {
        for (const unsigned protocol : {6u, 17u, 132u}) {
            for (const std::size_t payload : {1, 2, 300, 1003}) {
                CAPTURE(ipv4);
                CAPTURE(protocol);
                const PacketShape shape{ipv4, protocol, payload};
                Bytes packet = true_packet(shape);
                const unsigned good = (ipv4 ? ipcs : 0) | l4cs | (protocol == 17 ? udpcs : 0);
                CHECK(verdict(packet) == good);
                packet.resize(packet.size() + 9, std::byte{0x55});  // padding is not summed
                CHECK(verdict(packet) == good);
                CHECK(verdict(VfBench::tagged(packet, 5)) == good);
                packet[shape.header_bytes()] ^= std::byte{1};
                CHECK(verdict(packet) == (good | l4e));
                packet[shape.header_bytes()] ^= std::byte{1};
                if (!ipv4) continue;
                packet[22] ^= std::byte{1};  // time to live
                CHECK(verdict(packet) == (good | ipe));
            }
        }
    }
}

TEST_CASE("a UDP checksum of 0 is an error to the 82599, and not looked at by its successors") {
    Bytes packet = true_packet({true, 17, 50});
    set_16(packet, 40, 0);
    CHECK(verdict(packet, Part::i82599) == (ipcs | l4cs | udpcs | l4e));
    CHECK(verdict(packet, Part::x540) == ipcs);
    CHECK(verdict(packet, Part::x550) == ipcs);
}

TEST_CASE("fragments have no L4CS; the first one of a UDP datagram with a checksum has UDPV") {
    const PacketShape shape{true, 17, 50};
    for (const unsigned flags : {0x2000u, 0x2010u, 0x0010u}) {
        CAPTURE(flags);
        Bytes packet = true_packet(shape);
        set_16(packet, 20, flags);
        set_16(packet, 24, 0);
        set_16(packet, 24, ~slow_sum(std::span(packet).subspan(14, 20)));
        CHECK(verdict(packet) == (ipcs | (flags == 0x2000 ? udpv : 0)));
        set_16(packet, 40, 0);
        CHECK(verdict(packet) == ipcs);
    }
}

TEST_CASE("what is no IP, a transport header that is cut off, and a packet shorter than it says get no verdict on L4") {
    Bytes packet = true_packet({});
    packet.resize(packet.size() - 1);
    CHECK(verdict(packet) == ipcs);
    packet.resize(14 + 20 + 10);
    CHECK(verdict(packet) == ipcs);
    packet.resize(30);
    CHECK(verdict(packet) == 0);
    packet = true_packet({});
    set_16(packet, 12, 0x0806);
    CHECK(verdict(packet) == 0);
}

TEST_CASE("the descriptor carries the verdict, and LB for a frame from another function of the port") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(4);
    Bytes packet = true_packet({});
    REQUIRE(bench.vf.receive(packet) == vf_sim::RxOutcome::delivered);
    RxDone done{{bench.rx(0).done}};
    CHECK(done.get(RxDone::l4_checked) == 1);
    CHECK(done.get(RxDone::ip_checked) == 1);
    CHECK(done.get(RxDone::l4_error) == 0);
    CHECK(done.get(RxDone::loopback) == 0);
    packet.back() ^= std::byte{1};
    REQUIRE(bench.vf.receive(packet, vf_sim::Origin::function) == vf_sim::RxOutcome::delivered);
    done = RxDone{{bench.rx(1).done}};
    CHECK(done.get(RxDone::l4_error) == 1);
    CHECK(done.get(RxDone::loopback) == 1);
}

}  // namespace vitrine::sim_test
