/// Receive and transmit path at the end of a tunnel. The other end is played with the same builder, turned round.

#include <doctest/doctest.h>

#include "apps/frame/outer_writer.hpp"
#include "apps/vitrine/tunnel.hpp"
#include "tests/apps/lending_bench.hpp"
#include "tests/support/frames.hpp"

using namespace vitrine;
using namespace std::chrono_literals;
using apps::Encapsulation;
using test::Bytes;
using test::hex;
using test::LendingBench;
using test::operator+;
using test::PathBench;
using virtio::vrx::Mode;

namespace {

constexpr apps::MacAddress own{2, 0, 0, 0, 0, 1}, remote_mac{2, 0, 0, 0, 0, 2};
const Bytes arp_reply =
    hex("020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001") + Bytes(18);

apps::TunnelOptions options(Encapsulation encapsulation = Encapsulation::vxlan, bool v6 = false) {
    const std::uint16_t port = encapsulation == Encapsulation::vxlan ? apps::vxlan_port : apps::geneve_port;
    return {.ends = apps::TunnelEnds{encapsulation, 42, port, v6 ? test::ipv6(1) : test::ipv4(1),
                                     v6 ? test::ipv6(2) : test::ipv4(2)},
            .vlan = {},
            .gateway = {},
            .next_hop_mac = {}};
}

/// Different in every byte, so that one that moved shows.
Bytes inner_frame(std::size_t bytes) {
    Bytes frame(bytes);
    for (std::size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + (i >> 8));
    return frame;
}

/// As the other end sends it.
Bytes outer_frame(const apps::TunnelOptions& tunnel, const Bytes& inner) {
    apps::TunnelEnds ends = *tunnel.ends;
    std::swap(ends.local, ends.remote);
    const apps::OuterWriter writer(ends, remote_mac);
    Bytes frame(writer.bytes());
    writer.write(frame.data(), own, inner.size(), 7);
    return frame + inner;
}

struct End : apps::Tunnel {
    explicit End(const apps::TunnelOptions& tunnel) : Tunnel(tunnel) { start(own); }
    static apps::TunnelOptions resolved(apps::TunnelOptions tunnel) {
        tunnel.next_hop_mac = remote_mac;
        return tunnel;
    }
};

/// All the frames that the NIC was given, put together from their fragments.
std::vector<Bytes> sent_frames(PathBench& bench, mem::Iova guest_iova = {}) {
    std::vector<Bytes> frames;
    Bytes frame;
    for (const auto& fragment : bench.nic_sends()) {
        const bool ours = fragment.iova < guest_iova.raw || guest_iova.raw == 0;
        const std::byte* const from = ours ? bench.bounce_memory.data() + (fragment.iova - PathBench::bounce_iova.raw)
                                           : bench.ram.at(fragment.iova - guest_iova.raw);
        frame.insert(frame.end(), from, from + fragment.bytes);
        if (!fragment.end_of_packet) continue;
        frames.push_back(std::move(frame));
        frame.clear();
    }
    return frames;
}

std::uint64_t consumed(const apps::ReceivePathCounters& counters) {
    return counters.drop_no_guest + counters.neighbour_messages + counters.drop_not_tunnel + counters.drop_wrong_vni +
           counters.drop_outer_fragment + counters.drop_outer_malformed + counters.drop_outer_checksum +
           counters.drop_outer_unsupported;
}
void check_received(const PathBench& bench) {
    CHECK(bench.received.frames_from_nic == bench.device.receive_counters(0).frames + consumed(bench.received));
    bench.check_pages_conserved();
}

}  // namespace

TEST_CASE("copy: the guest gets the inner frame, byte for byte, of every kind of tunnel and length") {
    for (const auto kind : {Encapsulation::vxlan, Encapsulation::geneve})
        for (const bool v6 : {false, true})
            for (const std::size_t bytes : {14u, 60u, 1514u, 2000u, 4000u, 9000u}) {
                End tunnel(options(kind, v6));
                PathBench bench(false, &tunnel);
                bench.connect_guest();
                bench.post_receive_buffers(16);
                bench.nic_writes(outer_frame(options(kind, v6), inner_frame(bytes)));
                bench.receive.poll();
                CHECK(bench.guest_rx.take_frame() == inner_frame(bytes));
                CHECK(bench.guest_rx.last_header.flags == 0);
                check_received(bench);
            }
}

TEST_CASE("pages: the inner frame lies in the NIC's own pages, with a larger offset in the first") {
    for (const bool v6 : {false, true})
        for (const std::size_t bytes : {60u, 1514u, 2000u, 4000u}) {
            End tunnel(options(Encapsulation::vxlan, v6));
            LendingBench bench(true, Mode::pages, &tunnel);
            bench.nic_writes(outer_frame(options(Encapsulation::vxlan, v6), inner_frame(bytes)));
            bench.receive.poll();
            Bytes found;
            for (std::size_t number = 0; const auto element = bench.driver.take(); ++number) {
                CHECK(element->word.offset() == (number == 0 ? (v6 ? 70 : 50) : 0));
                CHECK_FALSE(element->word.has(virtio::vrx::UsedPage::checksum_ok));
                const auto part = bench.bytes(element->word);
                found.insert(found.end(), part.begin(), part.end());
            }
            CHECK(found == inner_frame(bytes));
            CHECK(bench.received.lent == 1);
            CHECK(bench.received.copied == 0);
            bench.check_conserved();
        }
}

TEST_CASE("pages: those behind the end of an inner frame are not lent, and come back") {
    End tunnel(options());
    LendingBench bench(true, Mode::pages, &tunnel);
    bench.nic_writes(outer_frame(options(), inner_frame(60)) + Bytes(4000));  // the packet ends long before the frame
    bench.receive.poll();
    const auto element = bench.driver.take();
    REQUIRE(element);
    CHECK(Bytes(bench.bytes(element->word).begin(), bench.bytes(element->word).end()) == inner_frame(60));
    CHECK_FALSE(element->word.has(virtio::vrx::UsedPage::next));
    CHECK_FALSE(bench.driver.take());
    CHECK(bench.packets.audit().held[2] == 0);
    bench.check_conserved();
}

TEST_CASE("a first packet that ends within or right behind the outer headers brings nothing") {
    for (const std::uint16_t first : {20, 49, 50, 63}) {
        End tunnel(options());
        LendingBench bench(true, Mode::pages, &tunnel);
        const Bytes frame = outer_frame(options(), inner_frame(600));
        const std::size_t slot = bench.rx_head;
        std::byte* const page = bench.packet_memory.data() + (bench.rx_slots[slot].page_iova - bench.packet_iova.raw);
        bench.nic_writes(first, false);
        std::copy_n(frame.begin(), first, page);
        bench.nic_writes(static_cast<std::uint16_t>(frame.size() - first), true);
        bench.receive.poll();
        CHECK_FALSE(bench.driver.take());
        CHECK(consumed(bench.received) == 1);
    }
}

TEST_CASE("an inner frame that waits for buffers is still whole when they come") {
    End tunnel(options());
    PathBench bench(false, &tunnel);
    bench.connect_guest();
    for (std::size_t i = 0; i < 5; ++i) bench.nic_writes(outer_frame(options(), inner_frame(100 + i)));
    for (int turn = 0; turn < 3; ++turn) bench.receive.poll();
    CHECK(bench.receive.waiting() == 5);
    bench.post_receive_buffers(8);
    bench.receive.poll();
    for (std::size_t i = 0; i < 5; ++i) CHECK(bench.guest_rx.take_frame() == inner_frame(100 + i));
    check_received(bench);
}

TEST_CASE("what is not the tunnel's is dropped and counted by its reason") {
    End tunnel(options());
    PathBench bench(false, &tunnel);
    bench.connect_guest();
    bench.post_receive_buffers(8);
    const Bytes good = outer_frame(options(), inner_frame(60));
    const auto with = [&](std::size_t at, std::uint8_t value, bool resum = false) {
        Bytes frame = good;
        frame[at] = std::byte{value};
        if (resum) {
            test::put16(frame, 24, 0);
            const auto header = std::span(frame).subspan(14, 20);
            test::put16(frame, 24, static_cast<std::uint16_t>(~apps::folded(apps::add_to_sum(0, header))));
        }
        bench.nic_writes(frame);
    };
    with(29, 9, true);     // source
    with(49, 43);          // the reserved octet: ours all the same
    with(48, 43);          // VNI
    with(20, 0x20, true);  // fragment
    with(24, 0);           // IPv4 header checksum
    bench.nic_writes(Bytes(60, std::byte{0x5a}));
    bench.receive.poll();
    CHECK(bench.guest_rx.take_frame() == inner_frame(60));
    CHECK_FALSE(bench.guest_rx.take_frame());
    CHECK(bench.received.drop_not_tunnel == 2);
    CHECK(bench.received.drop_wrong_vni == 1);
    CHECK(bench.received.drop_outer_fragment == 1);
    CHECK(bench.received.drop_outer_malformed == 1);
    check_received(bench);
}

TEST_CASE("RFC 8926, 3.4: a critical option drops the frame, by that reason") {
    End tunnel(options(Encapsulation::geneve));
    PathBench bench(false, &tunnel);
    Bytes frame = outer_frame(options(Encapsulation::geneve), inner_frame(60));
    frame[43] = std::byte{apps::geneve_critical};
    bench.nic_writes(frame);
    bench.receive.poll();
    CHECK(bench.received.drop_outer_unsupported == 1);
}

TEST_CASE(
    "RFC 7348, 5 and RFC 8926, 3.3: a wrong UDP checksum drops the frame; a silent NIC is believed of VXLAN only") {
    using driver::RxDone;
    const RxDone unknown{}, good = RxDone{}.with(RxDone::l4_checked, 1), bad = good.with(RxDone::l4_error, 1);
    for (const auto kind : {Encapsulation::vxlan, Encapsulation::geneve}) {
        Bytes wrong = outer_frame(options(kind), inner_frame(3001));  // odd, and over two pages
        test::put16(wrong, 40, 0x1234);
        Bytes right = wrong;
        test::put16(right, 40, 0);
        const std::uint64_t pseudo =
            apps::pseudo_header_sum(std::span(right).subspan(26, 8), apps::protocol_udp, right.size() - 34);
        test::put16(right, 40,
                    static_cast<std::uint16_t>(~apps::folded(apps::add_to_sum(pseudo, std::span(right).subspan(34)))));
        const auto passes = [&](const Bytes& frame, RxDone verdict) {
            End tunnel(options(kind));
            PathBench bench(false, &tunnel);
            bench.connect_guest();
            bench.post_receive_buffers(8);
            bench.nic_writes(frame, verdict);
            bench.receive.poll();
            const bool passed = bench.guest_rx.take_frame().has_value();
            CHECK(bench.received.drop_outer_checksum == (passed ? 0 : 1));
            return passed;
        };
        CHECK(passes(right, good));
        CHECK(passes(right, unknown));
        CHECK_FALSE(passes(wrong, bad));
        CHECK(passes(wrong, unknown) == (kind == Encapsulation::vxlan));
    }
}

TEST_CASE("ARP for our address is answered even without a guest") {
    End tunnel(options());
    PathBench bench(false, &tunnel);
    bench.nic_writes(
        hex("ffffffffffff 020000000007 0806 0001 0800 06 04 0001 020000000007 0a000007 000000000000 0a000001"));
    bench.receive.poll();
    bench.transmit.poll();
    const auto frames = sent_frames(bench);
    REQUIRE(frames.size() == 1);
    CHECK(frames[0] ==
          hex("020000000007 020000000001 0806 0001 0800 06 04 0002 020000000001 0a000001 020000000007 0a000007"));
    CHECK(bench.received.neighbour_messages == 1);
    CHECK(bench.sent.own_frames == 1);
    bench.transmit.poll();
    CHECK(bench.bounce.available() == bench.bounce.pages());
    check_received(bench);
}

TEST_CASE("the guest's first frames wait while the other end is asked for, and follow its answer") {
    for (const bool guest_dma : {false, true}) {
        CAPTURE(guest_dma);
        End tunnel(options());
        PathBench bench(guest_dma, &tunnel);
        bench.connect_guest();
        const mem::Iova guest_iova{0x8'0000'0000};
        REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, guest_iova));
        const apps::Tunnel::Time now{100s};
        bench.guest_sends(600, std::byte{0x10});
        tunnel.tick(now);
        bench.transmit.poll();
        auto frames = sent_frames(bench, guest_iova);
        REQUIRE(frames.size() == 1);
        CHECK(apps::load16(&frames[0][12]) == apps::type_arp);
        bench.transmit.poll();
        CHECK_FALSE(bench.guest_tx.take_used());

        bench.nic_writes(arp_reply);
        bench.receive.poll();
        bench.transmit.poll();
        frames = sent_frames(bench, guest_iova);
        REQUIRE(frames.size() == 1);
        CHECK(apps::load_mac(frames[0].data()) == remote_mac);
        bench.transmit.poll();
        CHECK(bench.guest_tx.take_used().has_value());
        CHECK(bench.sent.frames_to_nic == 1);
        CHECK(bench.sent.drop_unresolved == 0);
        bench.check_pages_conserved();
    }
}

TEST_CASE("when nobody answers, the guest's frames are dropped and counted, so that it does not hang") {
    End tunnel(options());
    PathBench bench(false, &tunnel);
    bench.connect_guest();
    apps::Tunnel::Time now{100s};
    for (int i = 0; i < 5; ++i) bench.guest_sends(600, std::byte{0x10});
    for (int second = 0; second < 3; ++second, now += 1s) {
        tunnel.tick(now);
        bench.transmit.poll();
        bench.nic_sends();
        CHECK(bench.sent.drop_unresolved == 0);
    }
    tunnel.tick(now);
    bench.transmit.poll();
    CHECK(bench.sent.drop_unresolved == 5);
    for (int i = 0; i < 5; ++i) CHECK(bench.guest_tx.take_used().has_value());
    CHECK(bench.device.transmit_counters(0).frames == bench.sent.frames_to_nic + bench.sent.drop_unresolved);
}

TEST_CASE("transmit: by copy headers and frame are one descriptor, and the other end finds the frame in it") {
    for (const auto kind : {Encapsulation::vxlan, Encapsulation::geneve})
        for (const bool v6 : {false, true}) {
            End tunnel(End::resolved(options(kind, v6)));
            PathBench bench(false, &tunnel);
            bench.connect_guest();
            for (const std::uint32_t bytes : {14u, 60u, 1514u}) bench.guest_sends(bytes, std::byte{0x77});
            bench.transmit.poll();
            const auto frames = sent_frames(bench);
            REQUIRE(frames.size() == 3);
            apps::TunnelEnds there = *options(kind, v6).ends;
            std::swap(there.local, there.remote);
            for (const Bytes& frame : frames) {
                const auto outer = apps::read_outer(frame, frame.size(), there);
                CHECK(outer.verdict == apps::Outer::ours);
                CHECK(std::all_of(frame.begin() + outer.inner_offset, frame.end(),
                                  [](std::byte byte) { return byte == std::byte{0x77}; }));
            }
            CHECK(frames[2].size() == there.outer_bytes() + 1514);
        }
}

TEST_CASE("transmit: by zero copy the headers are one descriptor more, in front of the guest's memory") {
    End tunnel(End::resolved(options()));
    PathBench bench(true, &tunnel);
    bench.connect_guest();
    const mem::Iova guest_iova{0x8'0000'0000};
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, guest_iova));
    bench.guest_sends(1000, std::byte{0x31});  // a group's address, as seen from inside: no reason to copy
    bench.transmit.poll();
    CHECK(bench.sent.zero_copy == 1);
    CHECK(bench.bounce.available() == bench.bounce.pages() - 1);
    const auto fragments = bench.nic_sends();
    REQUIRE(fragments.size() == 2);
    CHECK(fragments[0].bytes == 50);
    CHECK_FALSE(fragments[0].end_of_packet);
    CHECK(fragments[1].iova >= guest_iova.raw);
    CHECK(fragments[1].bytes == 1000);
    bench.transmit.poll();
    CHECK(bench.guest_tx.take_used().has_value());
    CHECK(bench.bounce.available() == bench.bounce.pages());
    bench.check_pages_conserved();
}

TEST_CASE("transmit: our own frames between the guest's complete none of its chains, also when the VF goes") {
    End tunnel(End::resolved(options()));
    PathBench bench(true, &tunnel);
    bench.connect_guest();
    REQUIRE(bench.device.memory().set_iova({test::GuestRam::guest_base}, mem::Iova{0x8'0000'0000}));
    const Bytes request =
        hex("ffffffffffff 020000000007 0806 0001 0800 06 04 0001 020000000007 0a000007 000000000000 0a000001");
    bench.nic_writes(request);
    bench.receive.poll();
    bench.transmit.poll();  // the answer
    bench.guest_sends(1000, std::byte{0x10});
    bench.transmit.poll();
    CHECK(bench.transmit.holds_guest_memory());
    bench.nic_writes(request);
    bench.receive.poll();
    bench.transmit.poll();
    bench.transmit.detach();
    CHECK(bench.sent.own_frames == 2);
    CHECK(bench.sent.lost_in_nic == 1);
    CHECK(bench.guest_tx.take_used().has_value());
    CHECK_FALSE(bench.guest_tx.take_used().has_value());
    CHECK(bench.bounce.available() == bench.bounce.pages());
}

TEST_CASE("a VLAN alone: the NIC takes the tag off, and what has another or none is dropped") {
    apps::TunnelOptions vlan;
    vlan.vlan = 10;
    End tunnel(vlan);
    PathBench bench(false, &tunnel);
    bench.connect_guest();
    bench.post_receive_buffers(4);
    using driver::RxDone;
    const auto tag = [](std::uint16_t tci) { return RxDone{}.with(RxDone::vlan, 1).with(RxDone::vlan_tag, tci); };
    bench.nic_writes(inner_frame(60), tag(0xe00a));  // with a priority
    bench.nic_writes(inner_frame(61), tag(11));
    bench.nic_writes(inner_frame(62));
    bench.receive.poll();
    CHECK(bench.guest_rx.take_frame() == inner_frame(60));
    CHECK_FALSE(bench.guest_rx.take_frame());
    CHECK(bench.received.drop_not_tunnel == 2);
    check_received(bench);
    bench.guest_sends(100, std::byte{0x44});
    bench.transmit.poll();
    CHECK(sent_frames(bench).front() == Bytes(100, std::byte{0x44}));  // the NIC puts it on
}
