// Checksums and segmentation on the way out (82599 data sheet, 7.2.4 and 7.2.5), judged by sums made the slow way.
#include <cstring>

#include "tests/sim/packets.hpp"
#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {

using namespace driver;
using vf_sim::Policy;

namespace {

Policy trusting() {
    Policy policy;
    policy.spoof_check = false;
    return policy;
}

struct OffloadBench : VfBench {
    PacketShape shape;

    explicit OffloadBench(const PacketShape& wanted) : VfBench(trusting()), shape(wanted) {
        reset();
        enable_tx();
        put(VFTXDCTL{}, 0u);
        put(VFTDLEN{{64 * 16}}, 0u);
        put(VFTXDCTL{}.with(VFTXDCTL::enable, 1), 0u);
    }
    TxDescriptor context(std::uint64_t segment_bytes = 0, std::uint64_t tag = 0) const {
        const std::uint64_t l4_type = shape.protocol == 6 ? 1 : shape.protocol == 17 ? 0 : 2;
        return {.low = TxContextHeaders{}
                           .with(TxContextHeaders::mac_header_bytes, 14)
                           .with(TxContextHeaders::ip_header_bytes, shape.ip_bytes())
                           .with(TxContextHeaders::vlan_tag, tag)
                           .raw,
                .high = TxContext{}
                            .with(TxContext::type, TxContext::context_type)
                            .with(TxContext::advanced, 1)
                            .with(TxContext::ipv4, shape.ipv4)
                            .with(TxContext::l4_type, l4_type)
                            .with(TxContext::l4_header_bytes, shape.l4_bytes())
                            .with(TxContext::segment_bytes, segment_bytes)
                            .raw};
    }
    TxData offloads(std::uint64_t payload) const {
        return data(0)
            .with(TxData::check_context, 1)
            .with(TxData::ip_checksum, shape.ipv4)
            .with(TxData::l4_checksum, 1)
            .with(TxData::payload_bytes, payload);
    }
    /// A packet as a driver prepares it: the pseudo-header's sum in the checksum field.
    Bytes prepared(bool with_length) {
        Bytes packet = make_packet(shape, {2, 0, 0, 0, 0, 9}, own);
        const std::size_t length = with_length ? packet.size() - shape.l4_at() : 0;
        set_16(packet, shape.checksum_at(), pseudo_sum(shape, packet, length));
        return packet;
    }
    /// Puts bytes into the DMA memory from buffer 0 on and shows them in pieces behind a context.
    void send(const Bytes& packet, const TxDescriptor& with_context, TxData first, std::size_t piece_bytes) {
        std::memcpy(bytes(0).data(), packet.data(), packet.size());
        tx(0) = with_context;
        std::uint32_t slot = 1;
        for (std::size_t done = 0; done < packet.size(); done += piece_bytes, ++slot) {
            const std::size_t piece = std::min(piece_bytes, packet.size() - done);
            const bool is_last = done + piece == packet.size();
            tx(slot) = {(buffer(0) + done).raw, first.with(TxData::buffer_bytes, piece)
                                                    .with(TxData::end_of_packet, is_last)
                                                    .with(TxData::report_status, is_last)
                                                    .raw};
        }
        last_slot = slot - 1;
        put(VFTDT{{slot}}, 0u);
        transmit();
    }
    bool reported() { return TxData{{tx(last_slot).high}}.get(TxData::done) != 0; }

    std::uint32_t last_slot = 0;
};

}  // namespace

TEST_CASE("IXSM and TXSM put in the sums of TCP and UDP, over IPv4 and IPv6, odd lengths and padding included") {
    for (const bool ipv4 : {true, false}) {
        for (const unsigned protocol : {6u, 17u}) {
            for (const std::size_t payload : {0, 1, 5, 100, 1001}) {
                CAPTURE(ipv4);
                CAPTURE(protocol);
                CAPTURE(payload);
                OffloadBench bench({ipv4, protocol, payload});
                const Bytes packet = bench.prepared(true);
                bench.send(packet, bench.context(), bench.offloads(packet.size()), 50);
                REQUIRE(bench.sent.size() == 1);
                CHECK(bench.sent[0].size() == std::max<std::size_t>(packet.size(), 60));
                CHECK(checksums_good(bench.shape, bench.sent[0]));
                bench.sent[0].resize(packet.size());
                set_16(bench.sent[0], bench.shape.checksum_at(), at_16(packet, bench.shape.checksum_at()));
                if (ipv4) set_16(bench.sent[0], 24, 0);
                CHECK(bench.sent[0] == packet);  // nothing else was touched
                CHECK(bench.reported());
            }
        }
    }
}

TEST_CASE("without IXSM and TXSM a frame leaves as it is, whatever its context says") {
    OffloadBench bench({});
    const Bytes packet = bench.prepared(true);
    bench.send(packet, bench.context(500), OffloadBench::data(0), 4000);
    REQUIRE(bench.sent.size() == 1);
    CHECK(bench.sent[0] == packet);
}

TEST_CASE("a UDP checksum that comes out as 0 is sent as FFFF") {
    OffloadBench bench({true, 17, 2});
    Bytes packet = bench.prepared(true);
    set_16(packet, 42, 0);
    const unsigned sum = slow_sum(std::span(packet).subspan(34));
    set_16(packet, 42, ~sum);
    bench.send(packet, bench.context(), bench.offloads(packet.size()), 4000);
    REQUIRE(bench.sent.size() == 1);
    CHECK(at_16(bench.sent[0], 40) == 0xffff);
}

TEST_CASE("SCTP gets the CRC-32c of RFC 3720's examples") {
    // 32 bytes of zeros: 0x8a9136aa, which is the packet here, header and field included.
    OffloadBench bench({true, 132, 20});
    Bytes packet = make_packet(bench.shape, {2, 0, 0, 0, 0, 9}, OffloadBench::own);
    std::fill(packet.begin() + 34, packet.end(), std::byte{0});
    bench.send(packet, bench.context(), bench.offloads(packet.size()), 4000);
    REQUIRE(bench.sent.size() == 1);
    std::uint32_t stored = 0;
    std::memcpy(&stored, &bench.sent[0][42], 4);
    CHECK(stored == 0x8a91'36aa);
}

TEST_CASE("a long TCP payload leaves in segments: lengths, identification, sequence, flags, sums; RS after the last") {
    for (const bool ipv4 : {true, false}) {
        for (const std::size_t piece : {40ul, 3000ul}) {
            constexpr std::size_t segment = 1000, payload = 4321;
            OffloadBench bench({ipv4, 6, payload});
            Bytes packet = bench.prepared(false);
            set_16(packet, ipv4 ? 16 : 18, 0);
            if (piece == 40) packet.resize(bench.shape.header_bytes() + 800);  // as many pieces as fit
            const std::size_t all = packet.size() - bench.shape.header_bytes();
            bench.send(packet, bench.context(segment, 0), bench.offloads(all).with(TxData::segment, 1), piece);
            REQUIRE(bench.sent.size() == (all + segment - 1) / segment);
            Bytes rebuilt;
            for (std::size_t i = 0; i < bench.sent.size(); ++i) {
                CAPTURE(i);
                const Bytes& frame = bench.sent[i];
                const bool is_last = i + 1 == bench.sent.size();
                const std::size_t bytes = is_last ? all - i * segment : segment;
                REQUIRE(frame.size() == bench.shape.header_bytes() + bytes);
                CHECK(at_16(frame, ipv4 ? 16 : 18) == frame.size() - 14 - (ipv4 ? 0 : 40));
                if (ipv4) CHECK(at_16(frame, 18) == ((0xfffe + i) & 0xffff));
                const unsigned sequence =
                    at_16(frame, bench.shape.l4_at() + 4) << 16 | at_16(frame, bench.shape.l4_at() + 6);
                CHECK(sequence == static_cast<unsigned>(0xffff'fc00 + i * segment));
                CHECK(at_16(frame, bench.shape.l4_at() + 12) == (is_last ? 0x8059u : 0x80d0u));
                CHECK(checksums_good(bench.shape, frame));
                rebuilt.insert(rebuilt.end(), frame.begin() + static_cast<long>(bench.shape.header_bytes()),
                               frame.end());
            }
            CHECK(std::equal(rebuilt.begin(), rebuilt.end(),
                             packet.begin() + static_cast<long>(bench.shape.header_bytes()), packet.end()));
            CHECK(bench.reported());
            CHECK(bench.get<VFGPTC>().raw == bench.sent.size());
        }
    }
}

TEST_CASE("UDP is segmented too: each datagram has its own length and sum") {
    OffloadBench bench({true, 17, 2500});
    Bytes packet = bench.prepared(false);
    bench.send(packet, bench.context(1000), bench.offloads(2500).with(TxData::segment, 1), 4000);
    REQUIRE(bench.sent.size() == 3);
    for (const Bytes& frame : bench.sent) {
        CHECK(at_16(frame, 38) == frame.size() - 34);
        CHECK(checksums_good(bench.shape, frame));
    }
}

TEST_CASE("VLE tags every segment") {
    OffloadBench bench({true, 6, 2500});
    const Bytes packet = bench.prepared(false);
    bench.send(packet, bench.context(1000, 0x2007),
               bench.offloads(2500).with(TxData::segment, 1).with(TxData::insert_vlan, 1), 4000);
    REQUIRE(bench.sent.size() == 3);
    for (Bytes& frame : bench.sent) {
        CHECK(at_16(frame, 12) == 0x8100);
        CHECK(at_16(frame, 14) == 0x2007);
        frame.erase(frame.begin() + 12, frame.begin() + 16);
        CHECK(checksums_good(bench.shape, frame));
    }
}

TEST_CASE("a payload of 256 KiB less one byte leaves in turns of the budget and reports at its end alone") {
    constexpr std::size_t payload = (1 << 18) - 1, segment = 1448;
    OffloadBench bench({true, 6, payload});
    const Bytes packet = bench.prepared(false);
    bench.send(packet, bench.context(segment), bench.offloads(payload).with(TxData::segment, 1), 16384);
    CHECK(bench.sent.size() == 31);  // a turn of 32, of which the context was one
    CHECK_FALSE(bench.reported());
    for (int turn = 0; turn < 5; ++turn) bench.transmit();
    CHECK(bench.sent.size() == (payload + segment - 1) / segment);
    CHECK(bench.reported());
    std::size_t bytes = 0;
    for (const Bytes& frame : bench.sent) {
        bytes += frame.size() - bench.shape.header_bytes();
        CHECK(checksums_good(bench.shape, frame));
    }
    CHECK(bytes == payload);
}

TEST_CASE("memory that goes while a frame is being cut halts the queue, and enabling it starts clean") {
    OffloadBench bench({true, 6, 60000});
    const Bytes packet = bench.prepared(false);
    bench.send(packet, bench.context(1000), bench.offloads(60000).with(TxData::segment, 1), 16384);
    const std::size_t before = bench.sent.size();
    REQUIRE(before < 60);
    REQUIRE(bench.vf.memory().unmap(OffloadBench::memory_at, OffloadBench::memory_bytes));
    bench.transmit();
    CHECK(bench.sent.size() == before);
    CHECK(bench.vf.tx_counters().halted_dma == 1);
    REQUIRE(
        bench.vf.memory().map(OffloadBench::memory_at, OffloadBench::memory_bytes, bench.memory.file, 0, true, true));
    bench.put(VFTXDCTL{}, 0u);
    bench.enable_tx();
    bench.transmit();
    CHECK(bench.sent.size() == before);
}

TEST_CASE("PAYLEN that is not what the buffers hold halts a queue that segments; impossible requests drop the frame") {
    const auto outcome = [](auto change) {
        OffloadBench bench({true, 6, 3000});
        const Bytes packet = bench.prepared(false);
        TxDescriptor context = bench.context(1000);
        TxData first = bench.offloads(3000).with(TxData::segment, 1);
        change(context, first);
        bench.send(packet, context, first, 4000);
        CHECK(bench.sent.empty());
        CHECK(bench.reported() == (bench.vf.tx_counters().halted_length == 0));
        return bench.vf.tx_counters();
    };
    const auto high = [](TxDescriptor& context, auto field, std::uint64_t value) {
        context.high = TxContext{{context.high}}.with(field, value).raw;
    };
    CHECK(outcome([](auto&, TxData& first) { first = first.with(TxData::payload_bytes, 3001); }).halted_length == 1);
    CHECK(outcome([&](auto& context, auto&) { high(context, TxContext::segment_bytes, 16000); }).halted_length == 1);
    CHECK(outcome([&](auto& context, auto&) { high(context, TxContext::segment_bytes, 0); }).offload_refused == 1);
    CHECK(outcome([&](auto& context, auto&) { high(context, TxContext::l4_type, 3); }).offload_refused == 1);
    CHECK(outcome([&](auto& context, auto&) { high(context, TxContext::l4_header_bytes, 220); }).offload_refused == 1);
    CHECK(outcome([&](auto& context, auto& first) {
              first = first.with(TxData::segment, 0);
              context.low = TxContextHeaders{{context.low}}.with(TxContextHeaders::ip_header_bytes, 511).raw;
              context.low = TxContextHeaders{{context.low}}.with(TxContextHeaders::mac_header_bytes, 127).raw;
              high(context, TxContext::l4_type, 3);
          }).offload_refused == 1);
}

}  // namespace vitrine::sim_test
