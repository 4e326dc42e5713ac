// The receive path below the wire: filters, queues, chaining, and rings that make no sense.
#include <cstring>

#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/rss.hpp"

namespace vitrine::sim_test {

using namespace driver;
using mem::EthernetAddress;
using vf_sim::Part;
using vf_sim::Policy;
using vf_sim::RxOutcome;

namespace {

constexpr EthernetAddress broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr EthernetAddress stranger{0x02, 9, 9, 9, 9, 9};

bool equal(std::span<const std::byte> left, std::span<const std::byte> right) {
    return left.size() == right.size() && std::memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace

TEST_CASE("a frame is one descriptor: data, packet type, DD and EOP; old status in posted descriptors means nothing") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(VfBench::slots - 1);
    const auto frame = VfBench::frame(VfBench::own, 100);
    REQUIRE(bench.vf.receive(frame) == RxOutcome::delivered);
    CHECK(equal(bench.bytes(0).first(100), frame));
    const RxInfo info{{bench.rx(0).page_iova}};
    CHECK(info.get(RxInfo::ipv4) == 1);
    CHECK(info.get(RxInfo::udp) == 1);
    CHECK(info.get(RxInfo::tcp) == 0);
    CHECK(info.get(RxInfo::rss_type) == 2);  // the PF does not hash UDP ports
    CHECK(bench.rx(0).done == RxDone{}
                                  .with(RxDone::done, 1)
                                  .with(RxDone::end_of_packet, 1)
                                  .with(RxDone::ip_checked, 1)
                                  .with(RxDone::l4_checked, 1)
                                  .with(RxDone::udp_checked, 1)
                                  .with(RxDone::l4_error, 1)  // an 82599, and a UDP checksum of 0
                                  .with(RxDone::length_bytes, 100)
                                  .raw);
    CHECK(bench.rx(1).done == ~std::uint64_t{0});
    CHECK(bench.get<VFRDH>(0u).raw == 1);
    CHECK(bench.get<VFGPRC>().raw == 1);
    CHECK(bench.get<VFGORC_LSB>().raw == 104);
}

TEST_CASE("a long frame fills buffer after buffer to BSIZEPACKET and has EOP on the last alone") {
    Policy policy;
    policy.part = Part::x540;
    VfBench bench(policy);
    bench.reset();
    bench.ask(MessageType::set_longest_frame, 9018);
    bench.enable_rx(0, 2);
    bench.post(VfBench::slots - 1);
    const auto frame = VfBench::frame(VfBench::own, 5000);
    REQUIRE(bench.vf.receive(frame) == RxOutcome::delivered);
    for (std::size_t slot = 0; slot < 3; ++slot) {
        const std::size_t expected = slot < 2 ? 2048 : 904;
        const RxDone done{{bench.rx(slot).done}};
        CHECK(done.get(RxDone::done) == 1);
        CHECK(done.get(RxDone::length_bytes) == expected);
        CHECK(done.get(RxDone::end_of_packet) == (slot == 2));
        CHECK(equal(bench.bytes(slot).first(expected), std::span(frame).subspan(slot * 2048, expected)));
    }
    CHECK(bench.rx(3).done == ~std::uint64_t{0});
}

TEST_CASE("a frame that does not fit into what is posted touches no descriptor") {
    Policy policy;
    policy.part = Part::x540;
    VfBench bench(policy);
    bench.reset();
    bench.ask(MessageType::set_longest_frame, 9018);
    bench.enable_rx();
    bench.post(2);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own, 4097)) == RxOutcome::no_descriptor);
    CHECK(bench.rx(0).done == ~std::uint64_t{0});
    CHECK(bench.get<VFRDH>(0u).raw == 0);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own, 4096)) == RxOutcome::delivered);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::no_descriptor);
    bench.put(VFRDT{{1}}, 0u);  // around the end of the ring
    for (std::size_t left = 7; left > 0; --left) {
        bench.rx(bench.get<VFRDH>(0u).raw) = {bench.buffer(0).raw, 0};
        CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::delivered);
    }
    CHECK(bench.get<VFRDH>(0u).raw == 1);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::no_descriptor);
}

TEST_CASE("rings that make no sense get no DMA: wild tail, no length, no buffer size, split descriptors") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(0);
    const auto frame = VfBench::frame(VfBench::own);
    for (const std::uint32_t tail : {8u, 9u, 0xffffu}) {
        bench.put(VFRDT{{tail}}, 0u);
        CHECK(bench.vf.receive(frame) == RxOutcome::no_descriptor);
    }
    bench.put(VFRDT{{4}}, 0u);
    bench.put(VFRDLEN{{0}}, 0u);
    CHECK(bench.vf.receive(frame) == RxOutcome::no_descriptor);
    bench.put(VFRDLEN{{128}}, 0u);
    bench.put(VFSRRCTL{}.with(VFSRRCTL::descriptor_type, 1), 0u);
    CHECK(bench.vf.receive(frame) == RxOutcome::no_descriptor);
    bench.put(VFSRRCTL{}.with(VFSRRCTL::packet_buffer_kib, 2).with(VFSRRCTL::descriptor_type, 2), 0u);
    CHECK(bench.vf.receive(frame) == RxOutcome::no_descriptor);
    for (std::size_t slot = 0; slot < VfBench::slots; ++slot) CHECK(bench.rx(slot).done == ~std::uint64_t{0});
    CHECK(bench.vf.memory().faults().unmapped == 0);
}

TEST_CASE("descriptors and buffers outside of what is mapped are faults, and IOVA 0 has a counter of its own") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(4);
    const auto frame = VfBench::frame(VfBench::own);
    bench.rx(0).page_iova = 0;
    CHECK(bench.vf.receive(frame) == RxOutcome::dma_fault);
    CHECK(bench.vf.memory().faults().null_address == 1);
    bench.rx(0).page_iova = (VfBench::memory_at + (VfBench::memory_bytes - 59)).raw;
    CHECK(bench.vf.receive(frame) == RxOutcome::dma_fault);
    CHECK(bench.vf.memory().faults().unmapped == 1);
    bench.rx(0).page_iova = (VfBench::memory_at + (VfBench::memory_bytes - 60)).raw;
    CHECK(bench.vf.receive(frame) == RxOutcome::delivered);
    bench.put(VFRDBAH{{0xffff'ffff}}, 0u);
    CHECK(bench.vf.receive(frame) == RxOutcome::dma_fault);
    CHECK(bench.vf.memory().faults().unmapped == 2);
}

TEST_CASE(
    "the VF is ready for a wire that starts when its enabled queues have descriptors, not when they are enabled") {
    VfBench bench;
    bench.reset();
    CHECK_FALSE(bench.vf.ready_to_receive());
    bench.enable_rx(0);
    CHECK_FALSE(bench.vf.ready_to_receive());
    bench.post(4, 0);
    CHECK(bench.vf.ready_to_receive());
    bench.enable_rx(1);
    CHECK_FALSE(bench.vf.ready_to_receive());
    bench.post(4, 1);
    CHECK(bench.vf.ready_to_receive());
    bench.vf.set_link(false);
    CHECK_FALSE(bench.vf.ready_to_receive());
}

TEST_CASE("nothing is received without bus mastering, before RESET, with the queue off, or with the link down") {
    VfBench bench;
    const auto frame = VfBench::frame(VfBench::own);
    CHECK(bench.vf.receive(frame) == RxOutcome::rx_disabled);
    bench.reset();
    CHECK(bench.vf.receive(frame) == RxOutcome::rx_disabled);
    bench.enable_rx();
    bench.post(4);
    bench.vf.set_link(false);
    CHECK(bench.vf.receive(frame) == RxOutcome::link_down);
    bench.vf.set_link(true);
    const std::array none{std::byte{0}, std::byte{0}};
    bench.vf.write_config(4, none);
    CHECK(bench.vf.receive(frame) == RxOutcome::rx_disabled);
}

TEST_CASE("filters: own address, broadcast, joined VLANs, and no more") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.post(VfBench::slots - 1);
    const auto outcome = [&](std::span<const std::byte> frame) {
        bench.post(bench.get<VFRDH>(0u).raw == 0 ? VfBench::slots - 1 : bench.get<VFRDH>(0u).raw - 1);
        return bench.vf.receive(frame);
    };
    CHECK(outcome(VfBench::frame(VfBench::own)) == RxOutcome::delivered);
    CHECK(outcome(VfBench::frame(broadcast)) == RxOutcome::delivered);
    CHECK(outcome(VfBench::frame(stranger)) == RxOutcome::filtered_mac);
    CHECK(outcome(VfBench::frame({0x01, 0, 0x5e, 0, 0, 1})) == RxOutcome::filtered_mac);
    CHECK(bench.get<VFMPRC>().raw == 0);  // broadcast is not multicast

    const auto tagged = VfBench::tagged(VfBench::frame(VfBench::own), 0x6007);
    CHECK(outcome(tagged) == RxOutcome::filtered_vlan);
    bench.ask(MessageType::set_vlan, 7, 1);
    CHECK(outcome(tagged) == RxOutcome::delivered);
    CHECK(outcome(VfBench::tagged(VfBench::frame(stranger), 7)) == RxOutcome::filtered_mac);
    CHECK(outcome(VfBench::tagged(VfBench::frame(VfBench::own), 0)) == RxOutcome::filtered_vlan);
    bench.ask(MessageType::update_receive_mode, 0);
    CHECK(outcome(VfBench::frame(broadcast)) == RxOutcome::filtered_mac);
    CHECK(outcome(VfBench::frame(VfBench::own)) == RxOutcome::delivered);
}

TEST_CASE("promiscuous takes strangers and strange VLANs; all-multicast takes groups but no strangers") {
    Policy policy;
    policy.part = Part::x550;
    policy.trusted = policy.promiscuous = true;
    VfBench bench(policy);
    bench.reset();
    bench.enable_rx();
    bench.post(VfBench::slots - 1);
    bench.ask(MessageType::update_receive_mode, 2);
    CHECK(bench.vf.receive(VfBench::frame({0x01, 0, 0x5e, 1, 2, 3})) == RxOutcome::delivered);
    CHECK(bench.get<VFMPRC>().raw == 1);
    CHECK(bench.vf.receive(VfBench::frame(stranger)) == RxOutcome::filtered_mac);
    bench.ask(MessageType::update_receive_mode, 3);
    CHECK(bench.vf.receive(VfBench::frame(stranger)) == RxOutcome::delivered);
    CHECK(bench.vf.receive(VfBench::tagged(VfBench::frame(stranger), 99)) == RxOutcome::delivered);
}

TEST_CASE("82599 data sheet, 8.2.3.7: the multicast filter looks at bits 47:36, 46:35, 45:34 or 43:32") {
    // Last two bytes 0xab 0xcd: bits 47:32 are 0xcdab.
    const std::array<std::uint32_t, 4> expected{0xcda, 0x9b5, 0x36a, 0xdab};
    for (unsigned type = 0; type < 4; ++type) {
        CAPTURE(type);
        Policy policy;
        policy.multicast_filter_type = type;
        VfBench bench(policy);
        bench.reset();
        bench.enable_rx();
        bench.post(4);
        const auto frame = VfBench::frame({0x01, 0, 0x5e, 0, 0xab, 0xcd});
        CHECK(bench.vf.receive(frame) == RxOutcome::filtered_mac);
        bench.ask({head_of(MessageType::set_multicast, 2).raw, 0x0001 | expected[type] << 16});
        CHECK(bench.vf.receive(frame) == RxOutcome::delivered);
        bench.ask({head_of(MessageType::set_multicast, 1).raw, 0x0001});
        CHECK(bench.vf.receive(frame) == RxOutcome::filtered_mac);
    }
}

TEST_CASE("a stripped tag leaves the frame and stands in the descriptor; VP is set either way") {
    VfBench bench;
    bench.reset();
    bench.ask(MessageType::set_vlan, 7, 1);
    const auto plain = VfBench::frame(VfBench::own, 80);
    const auto tagged = VfBench::tagged(plain, 0xe007);
    bench.enable_rx();
    bench.post(4);
    REQUIRE(bench.vf.receive(tagged) == RxOutcome::delivered);
    CHECK(equal(bench.bytes(0).first(84), tagged));
    RxDone done{{bench.rx(0).done}};
    CHECK(done.get(RxDone::vlan) == 1);
    CHECK(done.get(RxDone::vlan_tag) == 0);
    CHECK(done.get(RxDone::length_bytes) == 84);

    bench.put(VFRXDCTL{}, 0u);
    bench.enable_rx(0, 2, VFRXDCTL{}.with(VFRXDCTL::strip_vlan, 1));
    bench.post(4);
    REQUIRE(bench.vf.receive(tagged) == RxOutcome::delivered);
    CHECK(equal(bench.bytes(0).first(80), plain));
    done = RxDone{{bench.rx(0).done}};
    CHECK(done.get(RxDone::vlan) == 1);
    CHECK(done.get(RxDone::vlan_tag) == 0xe007);
    CHECK(done.get(RxDone::length_bytes) == 80);
    CHECK(RxInfo{{bench.rx(0).page_iova}}.get(RxInfo::udp) == 1);
}

TEST_CASE("the longest frame: that of the port with four bytes for a tag, and RLPML except on the 82599") {
    for (const Part part : {Part::i82599, Part::x540}) {
        Policy policy;
        policy.part = part;
        VfBench bench(policy);
        bench.reset();
        bench.ask(MessageType::set_vlan, 7, 1);
        bench.enable_rx(0, 2,
                        VFRXDCTL{}.with(VFRXDCTL::longest_frame_enable, 1).with(VFRXDCTL::longest_frame_bytes, 1000));
        bench.post(VfBench::slots - 1);
        CHECK(bench.vf.receive(VfBench::frame(VfBench::own, 1515)) == RxOutcome::too_long);
        const RxOutcome beyond = part == Part::i82599 ? RxOutcome::delivered : RxOutcome::too_long;
        CHECK(bench.vf.receive(VfBench::frame(VfBench::own, 1514)) == beyond);
        CHECK(bench.vf.receive(VfBench::tagged(VfBench::frame(VfBench::own, 1514), 7)) == beyond);
        CHECK(bench.vf.receive(VfBench::frame(VfBench::own, 1000)) == RxOutcome::delivered);
    }
}

TEST_CASE("the Toeplitz hash gives the published values for IPv4 and TCP/IPv4") {
    // 66.9.149.187:2794 -> 161.142.100.80:1766, from the RSS verification suite.
    std::vector<std::byte> frame(60);
    const auto put = [&](std::size_t at, std::initializer_list<unsigned> bytes) {
        for (const unsigned byte : bytes) frame[at++] = static_cast<std::byte>(byte);
    };
    put(12, {0x08, 0x00, 0x45});
    put(23, {6});
    put(26, {66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255});
    vf_sim::PhysicalFunction pf(Policy{}, nullptr);
    vf_sim::Rss rss = pf.rss();
    const auto tcp = rss.hash(vf_sim::FrameView(frame));
    REQUIRE(tcp);
    CHECK(tcp->value == 0x51ccc178);
    CHECK(tcp->type == 1);
    frame[20] = std::byte{0x20};  // more fragments: no ports
    const auto fragment = rss.hash(vf_sim::FrameView(frame));
    REQUIRE(fragment);
    CHECK(fragment->value == 0x323e8fc2);
    CHECK(fragment->type == 2);
    rss.types = vf_sim::Rss::tcp_ipv6;
    CHECK_FALSE(rss.hash(vf_sim::FrameView(frame)));
}

TEST_CASE("RSS spreads by hash among as many queues as RQPL says; the X550 uses the VF's own table") {
    for (const Part part : {Part::x540, Part::x550}) {
        CAPTURE(vf_sim::name_of(part));
        Policy policy;
        policy.part = part;
        policy.queues = 4;
        policy.rss_udp = true;
        VfBench bench(policy);
        bench.reset();
        for (unsigned queue = 0; queue < 4; ++queue) bench.enable_rx(queue);
        if (part == Part::x550) {
            bench.put(VFMRQC{{1 | 1u << 17 | 1u << 22}});
            for (unsigned word = 0; word < VFRSSRK::count; ++word) bench.put(VFRSSRK{{0x6d5a56da + word}}, word);
            for (unsigned word = 0; word < VFRETA::count; ++word) bench.put(VFRETA{{0x0302'0100}}, word);
        }
        for (const unsigned log2 : {0u, 1u, 2u}) {
            bench.put(VFPSRTYPE{}.with(VFPSRTYPE::rss_queues_log2, log2));
            std::array<unsigned, 4> hits{};
            for (std::uint16_t flow = 0; flow < 64; ++flow) {
                std::vector<std::byte> frame(60);
                mem::write_test_frame(frame, VfBench::own, stranger, {flow, 0});
                std::array<std::uint32_t, 4> before;
                for (unsigned queue = 0; queue < 4; ++queue) before[queue] = bench.get<VFRDH>(queue).raw;
                for (unsigned queue = 0; queue < 4; ++queue) bench.post((before[queue] + 4) % VfBench::slots, queue);
                REQUIRE(bench.vf.receive(frame) == RxOutcome::delivered);
                for (unsigned queue = 0; queue < 4; ++queue)
                    hits[queue] += bench.get<VFRDH>(queue).raw != before[queue];
            }
            for (unsigned queue = 0; queue < 4; ++queue) CHECK((hits[queue] > 0) == (queue < 1u << log2));
        }
    }
}

}  // namespace vitrine::sim_test
