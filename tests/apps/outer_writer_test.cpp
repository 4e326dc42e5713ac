#include "apps/frame/outer_writer.hpp"

#include <set>

#include <doctest/doctest.h>

#include "apps/frame/outer_reader.hpp"
#include "tests/support/frames.hpp"

using namespace vitrine;
using test::Bytes;
using test::hex;
using test::operator+;

namespace {

constexpr apps::MacAddress own{2, 0, 0, 0, 0, 1}, next_hop{2, 0, 0, 0, 0, 2};
constexpr std::size_t inner_bytes = 100;

apps::TunnelEnds ends(apps::Encapsulation encapsulation, bool v6) {
    return {encapsulation, 0x123456, encapsulation == apps::Encapsulation::vxlan ? apps::vxlan_port : apps::geneve_port,
            v6 ? test::ipv6(1) : test::ipv4(1), v6 ? test::ipv6(2) : test::ipv4(2)};
}

Bytes written(const apps::TunnelEnds& tunnel, std::uint32_t flow = 0, std::size_t inner = inner_bytes) {
    const apps::OuterWriter writer(tunnel, own);
    Bytes headers(writer.bytes(), std::byte{0xee});
    writer.write(headers.data(), next_hop, inner, flow);
    return headers;
}

Bytes tcp_frame(const std::string& source_port) {
    return hex("02aa00000001 02aa00000002 0800 45000028 0000 4000 40 06 0000 c0a80001 c0a80002 " + source_port +
               "0050 00000000");
}

}  // namespace

TEST_CASE("RFC 7348, 5: VXLAN over IPv4, octet by octet") {
    CHECK(written(ends(apps::Encapsulation::vxlan, false)) == hex("020000000002 020000000001 0800"
                                                                  "45 00 0088 0000 4000 40 11 2663 0a000001 0a000002"
                                                                  "c000 12b5 0074 0000"
                                                                  "08 000000 123456 00"));
}

TEST_CASE("RFC 8926, 3: GENEVE over IPv6, octet by octet") {
    CHECK(written(ends(apps::Encapsulation::geneve, true)) ==
          hex("020000000002 020000000001 86dd"
              "60000000 0074 11 40 fd000000000000000000000000000001 fd000000000000000000000000000002"
              "c000 17c1 0074 0000"
              "00 00 6558 123456 00"));
}

TEST_CASE("the IPv4 header checksum is right for every length") {
    for (std::size_t bytes = 14; bytes <= 9018; ++bytes) {
        const Bytes headers = written(ends(apps::Encapsulation::vxlan, false), 0, bytes);
        REQUIRE(apps::folded(apps::add_to_sum(0, std::span(headers).subspan(14, 20))) == 0xffff);
    }
}

TEST_CASE("what is written is read as ours by the other end") {
    for (const auto encapsulation : {apps::Encapsulation::vxlan, apps::Encapsulation::geneve})
        for (const bool v6 : {false, true}) {
            const apps::TunnelEnds here = ends(encapsulation, v6);
            apps::TunnelEnds there = here;
            std::swap(there.local, there.remote);
            const Bytes frame = written(here, 0x1234'5678) + Bytes(inner_bytes, std::byte{0x55});
            const apps::OuterFrame outer = apps::read_outer(frame, frame.size(), there);
            CHECK(outer.verdict == apps::Outer::ours);
            CHECK(outer.inner_offset == here.outer_bytes());
            CHECK(outer.inner_bytes == inner_bytes);
        }
}

TEST_CASE("RFC 7348, 5: the source port is a dynamic one, and spreads over them by the flow") {
    std::set<unsigned> ports;
    for (unsigned flow = 0; flow < 1000; ++flow) {
        const Bytes headers = written(ends(apps::Encapsulation::vxlan, false), flow * 0x9e37'79b9u);
        ports.insert(apps::load16(&headers[34]));
    }
    CHECK(*ports.begin() >= 49152);
    CHECK(ports.size() > 900);
}

TEST_CASE("RFC 6438: over IPv6 the flow label follows the flow, and nothing else of the first word") {
    const Bytes headers = written(ends(apps::Encapsulation::vxlan, true), 0xffff'ffff);
    CHECK(apps::load32(&headers[14]) == 0x600f'ffff);
}

TEST_CASE("the flow of a conversation stays the same, and another port makes another flow") {
    const std::uint32_t flow = apps::flow_hash(tcp_frame("1000"));
    CHECK(apps::flow_hash(tcp_frame("1000") + Bytes(2, std::byte{9})) == flow);
    CHECK(apps::flow_hash(tcp_frame("1001")) != flow);
}

TEST_CASE("all fragments of a packet are of one flow: their ports are not looked at") {
    Bytes first = tcp_frame("1000"), second = tcp_frame("1001");
    first[14 + 6] = std::byte{0x20};
    second[14 + 7] = std::byte{0x20};
    CHECK(apps::flow_hash(first) == apps::flow_hash(second));
}

TEST_CASE("a flow hash of any few bytes reads nothing beyond them") {
    const Bytes whole = tcp_frame("1000");
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
        const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes));
        apps::flow_hash(part);  // the sanitizers watch
    }
}
