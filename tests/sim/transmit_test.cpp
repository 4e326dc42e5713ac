// The transmit path above the wire: descriptors, contexts, write-back, and what halts a queue.
#include <cstring>

#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {

using namespace driver;
using vf_sim::Policy;

namespace {

struct TxBench : VfBench {
    explicit TxBench(Policy policy = {}) : VfBench(policy) {
        reset();
        enable_tx();
    }
    /// A frame of our own in buffer `index`.
    void fill(std::size_t index, std::size_t bytes_wanted, const mem::EthernetAddress& from = own) {
        const auto made = frame({2, 0, 0, 0, 0, 9}, std::max<std::size_t>(bytes_wanted, 60), from);
        std::memcpy(bytes(index).data(), made.data(), bytes_wanted);
    }
    void show(std::uint32_t tail) { put(VFTDT{{tail}}, 0u); }
};

TxDescriptor context(std::uint64_t slot, std::uint64_t tag) {
    return {
        .low =
            TxContextHeaders{}.with(TxContextHeaders::mac_header_bytes, 14).with(TxContextHeaders::vlan_tag, tag).raw,
        .high = TxContext{}
                    .with(TxContext::type, TxContext::context_type)
                    .with(TxContext::advanced, 1)
                    .with(TxContext::context, slot)
                    .raw};
}

}  // namespace

TEST_CASE("a frame leaves padded to 60 bytes; RS writes all 16 bytes back with DD alone") {
    TxBench bench;
    bench.fill(0, 42);
    bench.tx(0) = {bench.buffer(0).raw, TxBench::last(42).raw};
    bench.show(1);
    CHECK(bench.transmit() == 1);
    REQUIRE(bench.sent.size() == 1);
    CHECK(bench.sent[0].size() == 60);
    CHECK(std::memcmp(bench.sent[0].data(), bench.bytes(0).data(), 42) == 0);
    CHECK(bench.sent[0][42] == std::byte{0});
    CHECK(bench.tx(0).low == 0);
    CHECK(bench.tx(0).high == TxData{}.with(TxData::done, 1).raw);
    CHECK(bench.get<VFTDH>(0u).raw == 1);
    CHECK(bench.get<VFGPTC>().raw == 1);
    CHECK(bench.get<VFGOTC_LSB>().raw == 64);
}

TEST_CASE("a frame is gathered from several descriptors; only the one with RS is written back") {
    TxBench bench;
    bench.fill(0, 300);
    bench.tx(0) = {bench.buffer(0).raw, TxBench::data(100).raw};
    bench.tx(1) = {(bench.buffer(0) + 100).raw, TxBench::data(0).raw};
    bench.tx(2) = {(bench.buffer(0) + 100).raw, TxBench::last(200).raw};
    bench.show(3);
    CHECK(bench.transmit() == 1);
    REQUIRE(bench.sent.size() == 1);
    CHECK(std::memcmp(bench.sent[0].data(), bench.bytes(0).data(), 300) == 0);
    CHECK(TxData{{bench.tx(0).high}}.get(TxData::done) == 0);
    CHECK(TxData{{bench.tx(2).high}}.get(TxData::done) == 1);
}

TEST_CASE("a frame whose last descriptor is not there yet waits") {
    TxBench bench;
    bench.fill(0, 100);
    bench.tx(0) = {bench.buffer(0).raw, TxBench::data(50).raw};
    bench.show(1);
    CHECK(bench.transmit() == 0);
    CHECK(bench.get<VFTDH>(0u).raw == 0);
    bench.tx(1) = {(bench.buffer(0) + 50).raw, TxBench::last(50).raw};
    bench.show(2);
    CHECK(bench.transmit() == 1);
    CHECK(bench.sent.size() == 1);
}

TEST_CASE("contexts stay in their slot until the queue is enabled anew; VLE takes the tag from there") {
    Policy policy;
    policy.spoof_check = false;
    TxBench bench(policy);
    bench.fill(0, 60);
    bench.tx(0) = context(0, 5);
    bench.tx(1) = context(1, 0x2006);
    const auto tagged = [&](std::uint64_t slot) {
        return TxDescriptor{bench.buffer(0).raw, TxBench::last(60)
                                                     .with(TxData::insert_vlan, 1)
                                                     .with(TxData::check_context, 1)
                                                     .with(TxData::context, slot)
                                                     .raw};
    };
    bench.tx(2) = tagged(1);
    bench.tx(3) = tagged(0);
    bench.show(4);
    CHECK(bench.transmit() == 4);
    REQUIRE(bench.sent.size() == 2);
    CHECK(bench.sent[0] == TxBench::tagged({bench.bytes(0).begin(), bench.bytes(0).begin() + 60}, 0x2006));
    CHECK(bench.sent[1] == TxBench::tagged({bench.bytes(0).begin(), bench.bytes(0).begin() + 60}, 5));
    CHECK(bench.tx(0).low == context(0, 5).low);  // a context is not written back
    bench.put(VFTXDCTL{}, 0u);
    bench.enable_tx();
    bench.tx(0) = tagged(1);
    bench.show(1);
    bench.transmit();
    CHECK(bench.sent.back() == TxBench::tagged({bench.bytes(0).begin(), bench.bytes(0).begin() + 60}, 0));
}

TEST_CASE("spoofed addresses and VLANs that were not joined are dropped, completed, and not in the statistics") {
    TxBench bench;
    bench.fill(0, 60, {2, 0, 0, 0, 0, 5});
    bench.tx(0) = {bench.buffer(0).raw, TxBench::last(60).raw};
    const auto tagged = TxBench::tagged(TxBench::frame({2, 0, 0, 0, 0, 9}, 60, TxBench::own), 9);
    std::memcpy(bench.bytes(1).data(), tagged.data(), tagged.size());
    bench.tx(1) = {bench.buffer(1).raw, TxBench::last(tagged.size()).raw};
    bench.tx(2) = bench.tx(1);
    bench.show(2);
    bench.transmit();
    CHECK(bench.sent.empty());
    CHECK(bench.vf.tx_counters().spoofed == 2);
    CHECK(TxData{{bench.tx(1).high}}.get(TxData::done) == 1);
    CHECK(bench.get<VFGPTC>().raw == 0);
    bench.ask(MessageType::set_vlan, 9, 1);
    bench.show(3);
    bench.transmit();
    CHECK(bench.sent.size() == 1);
}

TEST_CASE("what cannot be sent is completed, dropped and counted by reason") {
    TxBench bench;
    bench.fill(0, 60);
    const auto slot = [&](TxData data) { return TxDescriptor{bench.buffer(0).raw, data.raw}; };
    bench.tx(0) = slot(TxBench::last(16));
    bench.tx(1) = slot(TxBench::last(60).with(TxData::insert_crc, 0));
    bench.tx(2) = slot(TxBench::last(60).with(TxData::segment, 1));  // the context does not say how
    bench.show(3);
    CHECK(bench.transmit() == 3);
    CHECK(bench.sent.empty());
    CHECK(bench.vf.tx_counters().too_short == 1);
    CHECK(bench.vf.tx_counters().no_crc == 1);
    CHECK(bench.vf.tx_counters().offload_refused == 1);
    for (std::size_t i = 0; i < 3; ++i) CHECK(TxData{{bench.tx(i).high}}.get(TxData::done) == 1);
}

TEST_CASE("what silicon cannot digest halts the queue until it is enabled again") {
    const auto halts = [](auto prepare, auto counter) {
        TxBench bench;
        bench.fill(0, 60);
        prepare(bench);
        bench.transmit();
        CHECK(bench.vf.tx_counters().*counter == 1);
        CHECK(bench.sent.empty());
        bench.tx(0) = {bench.buffer(0).raw, TxBench::last(60).raw};
        bench.show(1);
        CHECK(bench.transmit() == 0);
        CHECK(bench.vf.tx_counters().*counter == 1);  // and it does not fault for ever
        bench.put(VFTXDCTL{}, 0u);
        bench.enable_tx();
        bench.show(1);
        CHECK(bench.transmit() == 1);
        CHECK(bench.sent.size() == 1);
    };
    using vf_sim::TxCounters;
    halts(
        [](TxBench& bench) {
            bench.tx(0) = {bench.buffer(0).raw, TxBench::last(60).with(TxData::advanced, 0).raw};
            bench.show(1);
        },
        &TxCounters::halted_descriptor);
    halts(
        [](TxBench& bench) {
            bench.tx(0) = {bench.buffer(0).raw, TxBench::data(60).raw};
            bench.tx(1) = context(0, 0);
            bench.show(2);
        },
        &TxCounters::halted_descriptor);
    halts(
        [](TxBench& bench) {
            bench.tx(0) = {(TxBench::memory_at + (TxBench::memory_bytes - 30)).raw, TxBench::last(60).raw};
            bench.show(1);
        },
        &TxCounters::halted_dma);
    halts(
        [](TxBench& bench) {
            bench.tx(0) = {bench.buffer(0).raw, TxBench::data(15000).raw};
            bench.tx(1) = {bench.buffer(0).raw, TxBench::last(873).raw};
            bench.show(2);
        },
        &TxCounters::halted_length);
}

TEST_CASE("a frame may have 38 descriptors, and fewer with a write-back threshold") {
    constexpr std::uint32_t ring_slots = 64;
    for (const std::uint32_t threshold : {0u, 8u}) {
        for (const bool too_many : {false, true}) {
            TxBench bench;
            bench.fill(0, 60);
            bench.put(VFTXDCTL{}, 0u);
            bench.put(VFTDLEN{{ring_slots * 16}}, 0u);
            bench.put(VFTXDCTL{}.with(VFTXDCTL::enable, 1).with(VFTXDCTL::write_back_threshold, threshold), 0u);
            const std::uint32_t count = 38 - threshold + too_many;
            for (std::uint32_t i = 0; i + 1 < count; ++i)
                bench.tx(i) = {(bench.buffer(0) + i).raw, TxBench::data(1).raw};
            bench.tx(count - 1) = {(bench.buffer(0) + (count - 1)).raw, TxBench::last(60 - count + 1).raw};
            bench.show(count);
            bench.transmit();
            CHECK(bench.sent.size() == (too_many ? 0 : 1));
            CHECK(bench.vf.tx_counters().halted_chain == too_many);
        }
    }
}

TEST_CASE("nothing is sent with a wild tail, without the ring's memory, with the link down or after a reset") {
    TxBench bench;
    bench.fill(0, 60);
    bench.tx(0) = {bench.buffer(0).raw, TxBench::last(60).raw};
    bench.show(0xffff);
    CHECK(bench.transmit() == 0);
    bench.show(1);
    bench.vf.set_link(false);
    CHECK(bench.transmit() == 0);
    bench.vf.set_link(true);
    bench.put(VFCTRL{}.with(VFCTRL::reset, 1));
    CHECK(bench.transmit() == 0);
    bench.reset();
    bench.enable_tx();
    bench.show(1);
    REQUIRE(bench.vf.memory().unmap(TxBench::memory_at, TxBench::memory_bytes));
    CHECK(bench.transmit() == 0);
    CHECK(bench.vf.tx_counters().halted_dma == 1);
}

}  // namespace vitrine::sim_test
