#include "driver/statistics.hpp"

#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using namespace vitrine::driver;

namespace {

void set_counters(tests::FakeNic& nic, std::uint32_t frames, std::uint64_t octets) {
    nic.reg(VFGPRC::at()) = nic.reg(VFGPTC::at()) = nic.reg(VFMPRC::at()) = frames;
    nic.reg(VFGORC_LSB::at()) = nic.reg(VFGOTC_LSB::at()) = static_cast<std::uint32_t>(octets);
    // Reserved bits above 35:32 may hold anything.
    nic.reg(VFGORC_MSB::at()) = nic.reg(VFGOTC_MSB::at()) = static_cast<std::uint32_t>(octets >> 32) | 0xabcd'ef00;
}

}  // namespace

TEST_CASE("82599 8.2.3.23: what was there before does not count, and counters wrap at 32 and 36 bits") {
    tests::FakeNic nic;
    StatisticsReader reader;
    set_counters(nic, 0xffff'fff0, 0xf'ffff'ff00);
    reader.begin(nic);
    CHECK(reader.update(nic).rx_frames == 0);

    set_counters(nic, 0x10, 0x100);
    const Statistics& total = reader.update(nic);
    CHECK(total.rx_frames == 0x20);
    CHECK(total.tx_frames == 0x20);
    CHECK(total.rx_multicast_frames == 0x20);
    CHECK(total.rx_octets == 0x200);
    CHECK(total.tx_octets == 0x200);

    set_counters(nic, 0xf000'0010, 0xe'0000'0100);
    CHECK(reader.update(nic).rx_octets == 0x200 + 0xe'0000'0000);
    CHECK(total.rx_frames == 0x20 + 0xf000'0000);
}

TEST_CASE("a reset of the PF sets the counters to 0 and loses nothing that was counted") {
    tests::FakeNic nic;
    StatisticsReader reader;
    set_counters(nic, 0, 0);
    reader.begin(nic);
    set_counters(nic, 500, 50'000);
    reader.update(nic);
    set_counters(nic, 0, 0);
    reader.begin(nic);
    set_counters(nic, 7, 700);
    CHECK(reader.update(nic).rx_frames == 507);
    CHECK(reader.update(nic).tx_octets == 50'700);
}
