// BAR0 and configuration space: what reads, what writes, what each reset leaves.
#include <cstring>

#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/hardware_statistics.hpp"

namespace vitrine::sim_test {

using namespace driver;
using vf_sim::Part;
using vf_sim::Policy;

TEST_CASE("every register can be read and written with anything; VFSTATUS never reads all ones") {
    for (const Part part : {Part::i82599, Part::x540, Part::x550}) {
        Policy policy;
        policy.part = part;
        VfBench bench(policy);
        for (const std::uint32_t value : {0xffff'ffffu, 0x5a5a'5a5au, 0u}) {
            for (std::uint32_t offset = 0; offset < bar0_bytes; offset += 4) bench.vf.store(offset, value);
            for (std::uint32_t offset = 0; offset < bar0_bytes; offset += 4) bench.vf.load(offset);
            CHECK(bench.get<VFSTATUS>().raw != all_ones);
            CHECK(bench.transmit() == 0);
        }
    }
}

TEST_CASE("registers that are not there read 0, whatever was written") {
    VfBench bench;
    for (const std::uint32_t offset :
         {0x0004u, 0x000cu, 0x0400u, 0x1030u, 0x1200u, 0x2014u, 0x2f00u, 0x3000u, 0x3f00u}) {
        CAPTURE(offset);
        bench.vf.store(offset, all_ones);
        CHECK(bench.vf.load(offset) == 0);
    }
}

TEST_CASE("ring registers keep what ethtool's test writes, under its masks, for queues 0 and 1") {
    VfBench bench;
    for (unsigned queue = 0; queue < 2; ++queue) {
        for (const std::uint32_t pattern : {0x5a5a'5a5au, 0xa5a5'a5a5u, 0xffff'ffffu, 0u}) {
            bench.put(VFRDBAL{{pattern}}, queue);
            CHECK(bench.get<VFRDBAL>(queue).raw == (pattern & 0xffff'ff80));
            bench.put(VFRDBAH{{pattern}}, queue);
            CHECK(bench.get<VFRDBAH>(queue).raw == pattern);
            bench.put(VFRDLEN{{pattern}}, queue);
            CHECK(bench.get<VFRDLEN>(queue).raw == (pattern & 0x000f'ff80));
            bench.put(VFTDBAL{{pattern}}, queue);
            CHECK(bench.get<VFTDBAL>(queue).raw == (pattern & 0xffff'ff80));
            bench.put(VFTDLEN{{pattern}}, queue);
            CHECK(bench.get<VFTDLEN>(queue).raw == (pattern & 0x000f'ff80));
        }
        bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1), queue);
        for (const std::uint32_t pattern : {0x5a5a'5a5au, 0xffff'ffffu}) {
            bench.put(VFRDT{{pattern}}, queue);
            CHECK(bench.get<VFRDT>(queue).raw == (pattern & 0xffff));
        }
    }
}

TEST_CASE("a tail written before ENABLE is ignored, a head written after it too") {
    VfBench bench;
    bench.put(VFRDH{{3}}, 0u);
    bench.put(VFRDT{{6}}, 0u);
    CHECK(bench.get<VFRDH>(0u).raw == 3);
    CHECK(bench.get<VFRDT>(0u).raw == 0);
    bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1), 0u);
    CHECK(bench.get<VFRDT>(0u).raw == 3);
    bench.put(VFRDH{{5}}, 0u);
    CHECK(bench.get<VFRDH>(0u).raw == 3);
}

TEST_CASE("queues that the VF does not have take writes and never become enabled") {
    VfBench bench;
    bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1), 1u);
    CHECK(bench.get<VFRXDCTL>(1u).get(VFRXDCTL::enable) == 1);  // no part gives a VF fewer than two
    for (unsigned queue = 2; queue < queue_slots; ++queue) {
        bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1).with(VFRXDCTL::strip_vlan, 1), queue);
        bench.put(VFTXDCTL{}.with(VFTXDCTL::enable, 1), queue);
        CHECK(bench.get<VFRXDCTL>(queue).raw == VFRXDCTL::strip_vlan.mask);
        CHECK(bench.get<VFTXDCTL>(queue).raw == 0);
    }
}

TEST_CASE("VFCTRL.RST and FLR stop queues and clear interrupts, and leave ring registers and statistics") {
    for (const bool flr : {false, true}) {
        CAPTURE(flr);
        VfBench bench;
        bench.reset();
        bench.enable_rx();
        bench.post(4);
        REQUIRE(bench.vf.receive(VfBench::frame(VfBench::own)) == vf_sim::RxOutcome::delivered);
        bench.put(VTEIMS{{7}});
        bench.put(VTEIAM{{7}});
        bench.put(VTIVAR{{0x8180}}, 0u);
        if (flr) {
            const std::array initiate{std::byte{0x00}, std::byte{0x80}};
            bench.vf.write_config(0xa8, initiate);
        } else {
            bench.put(VFCTRL{}.with(VFCTRL::reset, 1));
        }
        CHECK(bench.get<VFRXDCTL>(0u).get(VFRXDCTL::enable) == 0);
        CHECK(bench.get<VTEIMS>().raw == 0);
        CHECK(bench.get<VTEIAM>().raw == 0);
        CHECK(bench.get<VTIVAR>(0u).raw == 0);
        CHECK(bench.get<VFRDH>(0u).raw == 1);
        CHECK(bench.get<VFRDBAL>(0u).raw == VfBench::rx_ring_at.raw);
        CHECK(bench.get<VFGPRC>().raw == 1);
        CHECK(bench.vf.config().bus_master() == !flr);
        std::array<std::byte, 2> control;
        bench.vf.config().read(0xa8, control);
        CHECK(control[1] == std::byte{0});
    }
}

TEST_CASE("octet counters wrap at 36 bits, frame counters at 32") {
    vf_sim::HardwareStatistics statistics;
    statistics.count_sent((std::uint64_t{1} << 36) - 4 - 1);
    CHECK(statistics.load(VFGOTC_LSB::at()) == 0xffff'ffff);
    CHECK(statistics.load(VFGOTC_MSB::at()) == 0xf);
    statistics.count_sent(60);
    CHECK(statistics.load(VFGOTC_LSB::at()) == 63);
    CHECK(statistics.load(VFGOTC_MSB::at()) == 0);
    CHECK(statistics.load(VFGPTC::at()) == 2);
    CHECK_FALSE(statistics.load(VFRDBAL::at(1)));
}

TEST_CASE("configuration space: ids, sizing of the BARs, and nothing writable that is not") {
    vf_sim::ConfigSpace config(Part::x550);
    const auto word = [&](std::size_t offset) {
        std::uint32_t value = 0;
        config.read(offset, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    };
    CHECK(word(0x00) == 0x1565'8086);
    CHECK(word(0x34) == 0x70);
    CHECK(word(0x70) == 0x0002'a011);
    CHECK(word(0x74) == 3);
    CHECK(word(0x78) == 0x2003);
    CHECK((word(0xa4) & 1u << 28) != 0);
    CHECK(word(0x100) == 0);
    const std::array<std::byte, vf_sim::ConfigSpace::size_bytes> before = [&] {
        std::array<std::byte, vf_sim::ConfigSpace::size_bytes> bytes;
        config.read(0, bytes);
        return bytes;
    }();
    std::array<std::byte, vf_sim::ConfigSpace::size_bytes> ones;
    ones.fill(std::byte{0xff});
    CHECK(config.write(0, ones));  // it holds Initiate FLR
    CHECK(word(0x00) == 0x1565'8086);
    CHECK(word(0x04) == 0x0010'0406);
    CHECK(word(0x10) == 0xffff'c004);
    CHECK(word(0x14) == 0xffff'ffff);
    CHECK(word(0x18) == 0);
    CHECK(word(0x1c) == 0xffff'c004);
    CHECK(word(0x24) == 0);
    CHECK(word(0x30) == 0);
    CHECK(word(0x70) == 0xc002'a011);
    CHECK(word(0xa8) == 0);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < ones.size(); ++i) {
        std::array<std::byte, 1> now;
        config.read(i, now);
        changed += now[0] != before[i];
    }
    CHECK(changed == 2 + 1 + 7 + 7);  // command, MSI-X control, two BARs less their fixed bits
    config.reset();
    CHECK(word(0x04) == 0x0010'0000);
}

}  // namespace vitrine::sim_test
