#include "apps/frame/outer_reader.hpp"

#include <doctest/doctest.h>

#include "tests/support/frames.hpp"

using namespace vitrine;
using apps::Encapsulation;
using apps::Outer;
using test::Bytes;
using test::hex;
using test::operator+;
using test::put16;

namespace {

const Bytes inner(60, std::byte{0xab});

/// A frame from the remote end, in parts that a test may spoil before it is put together: what follows from lengths is
/// then right.
struct Wire {
    apps::TunnelEnds ends{Encapsulation::vxlan, 0x123456, apps::vxlan_port, test::ipv4(1), test::ipv4(2)};
    Bytes ethernet = hex("020000000001 020000000002 0800");
    Bytes ip = hex("45 00 0000 0000 4000 40 11 0000 0a000002 0a000001");
    Bytes udp = hex("c000 12b5 0000 0000");
    Bytes tunnel = hex("08 000000 123456 00");
    Bytes payload = inner;
    Bytes padding;

    static Wire geneve(const Bytes& options = {}) {
        Wire wire;
        wire.ends.encapsulation = Encapsulation::geneve;
        wire.ends.port = apps::geneve_port;
        wire.udp = hex("c000 17c1 0000 0000");
        wire.tunnel = hex("00 00 6558 123456 00") + options;
        wire.tunnel[0] = static_cast<std::byte>(options.size() / 4);
        return wire;
    }
    static Wire over_ipv6() {
        Wire wire;
        wire.ends.local = test::ipv6(1);
        wire.ends.remote = test::ipv6(2);
        wire.ethernet = hex("020000000001 020000000002 86dd");
        wire.ip = hex("60000000 0000 11 40") + address(wire.ends.remote) + address(wire.ends.local);
        return wire;
    }
    static Bytes address(const apps::IpAddress& ip_address) {
        Bytes bytes(ip_address.size());
        ip_address.store(bytes.data());
        return bytes;
    }

    std::size_t datagram() const { return udp.size() + tunnel.size() + payload.size(); }
    Bytes frame() const {
        Bytes headers = ip;
        Bytes datagram_header = udp;
        put16(datagram_header, 4, datagram());
        if (ends.local.v6) {
            put16(headers, 4, datagram());
        } else {
            put16(headers, 2, ip.size() + datagram());
            put16(headers, 10, static_cast<std::uint16_t>(~apps::folded(apps::add_to_sum(0, headers))));
        }
        return ethernet + headers + datagram_header + tunnel + payload + padding;
    }
    static apps::OuterFrame read(const Bytes& frame, const apps::TunnelEnds& ends) {
        const Bytes copy(frame.begin(),
                         frame.begin() + static_cast<std::ptrdiff_t>(std::min(frame.size(), apps::most_outer_bytes)));
        return apps::read_outer(copy, frame.size(), ends);
    }
    Outer verdict() const { return read(frame(), ends).verdict; }
    /// The inner frame as it was found.
    Bytes found() const {
        const Bytes whole = frame();
        const apps::OuterFrame outer = read(whole, ends);
        REQUIRE(outer.verdict == Outer::ours);
        const auto begin = whole.begin() + outer.inner_offset;
        return {begin, begin + outer.inner_bytes};
    }
};

}  // namespace

TEST_CASE("RFC 7348, 5: the inner frame lies behind 50 bytes over IPv4, and 70 over IPv6") {
    CHECK(Wire().found() == inner);
    CHECK(Wire::read(Wire().frame(), Wire().ends).inner_offset == 50);
    const Wire wire = Wire::over_ipv6();
    CHECK(wire.found() == inner);
    CHECK(Wire::read(wire.frame(), wire.ends).inner_offset == 70);
}

TEST_CASE("RFC 7348, 5: the flag that says the VNI is valid must be set; reserved bits are ignored") {
    Wire wire;
    wire.tunnel = hex("00 000000 123456 00");
    CHECK(wire.verdict() == Outer::wrong_vni);
    wire.tunnel = hex("ff ffffff 123456 ff");
    CHECK(wire.found() == inner);
}

TEST_CASE("a frame of another VNI is not ours") {
    Wire wire;
    wire.tunnel = hex("08 000000 123457 00");
    CHECK(wire.verdict() == Outer::wrong_vni);
    Wire geneve = Wire::geneve();
    geneve.tunnel = hex("00 00 6558 023456 00");
    CHECK(geneve.verdict() == Outer::wrong_vni);
}

TEST_CASE("IPv4 options, a priority tag and padding behind the packet do not end up in the inner frame") {
    Wire wire;
    wire.ip = hex("4f 00 0000 0000 4000 40 11 0000 0a000002 0a000001") + Bytes(40, std::byte{1});
    wire.ethernet = hex("020000000001 020000000002 8100 e000 0800");
    wire.padding = Bytes(11, std::byte{0xee});
    CHECK(wire.found() == inner);
    CHECK(Wire::read(wire.frame(), wire.ends).inner_offset == apps::most_outer_bytes);
}

TEST_CASE("a frame of some VLAN is somebody else's") {
    Wire wire;
    wire.ethernet = hex("020000000001 020000000002 8100 0001 0800");
    CHECK(wire.verdict() == Outer::not_tunnel);
}

TEST_CASE("only UDP from the remote end to the local one and its port is the tunnel's") {
    const auto spoilt = [](Bytes Wire::* part, std::size_t at) {
        Wire wire;
        (wire.*part)[at] ^= std::byte{1};
        return wire.verdict();
    };
    CHECK(spoilt(&Wire::ip, 9) == Outer::not_tunnel);         // protocol
    CHECK(spoilt(&Wire::ip, 15) == Outer::not_tunnel);        // source
    CHECK(spoilt(&Wire::ip, 19) == Outer::not_tunnel);        // destination
    CHECK(spoilt(&Wire::udp, 3) == Outer::not_tunnel);        // port
    CHECK(spoilt(&Wire::ethernet, 13) == Outer::not_tunnel);  // type
    CHECK(spoilt(&Wire::udp, 1) == Outer::ours);              // any source port: it carries entropy
    Wire over_ipv6 = Wire::over_ipv6();
    over_ipv6.ip[23] ^= std::byte{1};
    CHECK(over_ipv6.verdict() == Outer::not_tunnel);
}

TEST_CASE("RFC 7348, 4.3: fragments of outer packets are not put together") {
    Wire wire;
    wire.ip[6] = std::byte{0x20};
    CHECK(wire.verdict() == Outer::fragment);
    wire.ip[6] = std::byte{0};
    wire.ip[7] = std::byte{1};
    CHECK(wire.verdict() == Outer::fragment);
    Wire over_ipv6 = Wire::over_ipv6();
    over_ipv6.ip[6] = std::byte{44};
    CHECK(over_ipv6.verdict() == Outer::fragment);
}

TEST_CASE("RFC 1122, 3.2.1.2: a bad IPv4 header checksum drops the packet") {
    const Wire wire;
    Bytes frame = wire.frame();
    frame[14 + 10] ^= std::byte{1};
    CHECK(Wire::read(frame, wire.ends).verdict == Outer::malformed);
}

TEST_CASE("lengths that contradict each other drop the packet") {
    const Wire wire;
    const auto with = [&](std::size_t at, std::size_t value) {
        Bytes frame = wire.frame();
        put16(frame, at, value);
        put16(frame, 24, 0);
        put16(frame, 24,
              static_cast<std::uint16_t>(~apps::folded(apps::add_to_sum(0, std::span(frame).subspan(14, 20)))));
        return Wire::read(frame, wire.ends).verdict;
    };
    const std::size_t packet = 20 + wire.datagram();
    CHECK(with(16, packet) == Outer::ours);
    CHECK(with(16, packet + 1) == Outer::malformed);  // more than the frame holds
    CHECK(with(16, packet - 1) == Outer::malformed);  // less than UDP says
    CHECK(with(16, 19) == Outer::malformed);          // less than its own header
    CHECK(with(38, wire.datagram() + 1) == Outer::malformed);
    CHECK(with(38, 7) == Outer::malformed);
    CHECK(with(38, 8) == Outer::malformed);        // no tunnel header
    CHECK(with(38, 16 + 13) == Outer::malformed);  // no whole Ethernet header inside
    CHECK(with(38, 16 + 14) == Outer::ours);
    CHECK(with(14, 0x4400) == Outer::malformed);  // an IPv4 header of 16 bytes
    CHECK(with(14, 0x6500) == Outer::malformed);  // IPv6 where IPv4 was announced
}

TEST_CASE("a frame that ends early is never read beyond its end") {
    for (const Wire& wire : {Wire(), Wire::geneve(Bytes(16)), Wire::over_ipv6()}) {
        const Bytes whole = wire.frame();
        for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
            const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes));
            CHECK(Wire::read(part, wire.ends).verdict != Outer::ours);
        }
    }
}

TEST_CASE("RFC 8926, 3.4: options that are not critical are skipped, whatever they hold") {
    CHECK(Wire::geneve().found() == inner);
    CHECK(Wire::geneve(hex("0102 03 01 deadbeef")).found() == inner);
    CHECK(Wire::geneve(Bytes(252, std::byte{0xff})).found() == inner);
}

TEST_CASE("RFC 8926, 3.4: a packet with a critical option is dropped by an end that knows none") {
    Wire wire = Wire::geneve(hex("0102 83 00"));
    wire.tunnel[1] = std::byte{apps::geneve_critical};
    CHECK(wire.verdict() == Outer::unsupported);
}

TEST_CASE("RFC 8926, 3.4: an unknown version, a control packet and what is not Ethernet are dropped") {
    Wire wire = Wire::geneve();
    wire.tunnel[0] = std::byte{0x40};
    CHECK(wire.verdict() == Outer::unsupported);
    wire.tunnel = hex("00 80 6558 123456 00");
    CHECK(wire.verdict() == Outer::unsupported);
    wire.tunnel = hex("00 00 0800 123456 00");
    CHECK(wire.verdict() == Outer::unsupported);
    wire.tunnel = hex("00 3f 6558 123456 ff");  // reserved bits
    CHECK(wire.found() == inner);
}

TEST_CASE("RFC 8926, 3.4: options longer than the packet drop it") {
    Wire wire = Wire::geneve();
    wire.tunnel[0] = std::byte{13};  // 52 of the 60 bytes that follow: 8 are no Ethernet header
    CHECK(wire.verdict() == Outer::malformed);
    wire.tunnel[0] = std::byte{11};
    CHECK(wire.verdict() == Outer::ours);
}

TEST_CASE("the UDP checksum, where there is one, covers pseudo header, headers and inner frame") {
    for (Wire wire : {Wire(), Wire::over_ipv6(), Wire::geneve(hex("0102 03 00"))}) {
        CHECK_FALSE(Wire::read(wire.frame(), wire.ends).has_udp_checksum);
        wire.payload.resize(61, std::byte{0x17});
        Bytes frame = wire.frame();
        const std::size_t udp_at = wire.ethernet.size() + wire.ip.size();
        // The sum as RFC 768 and RFC 8200 write it down, independent of the reader's offsets.
        std::uint64_t sum = apps::protocol_udp + wire.datagram();
        for (const apps::IpAddress& address : {wire.ends.local, wire.ends.remote})
            sum = apps::add_to_sum(sum, Wire::address(address));
        sum = apps::add_to_sum(sum, std::span(frame).subspan(udp_at, wire.datagram()));
        put16(frame, udp_at + 6, static_cast<std::uint16_t>(~apps::folded(sum)));

        const apps::OuterFrame outer = Wire::read(frame, wire.ends);
        REQUIRE(outer.verdict == Outer::ours);
        CHECK(outer.has_udp_checksum);
        const auto covered = std::span(frame).subspan(outer.udp_offset);
        CHECK(apps::folded(apps::add_to_sum(apps::outer_pseudo_header_sum(frame, outer, wire.ends), covered)) ==
              0xffff);
    }
}
