#include <system_error>

#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using driver::Link;
using driver::VFLINKS;
using driver::VFMAILBOX;
using driver::Watch;

namespace {

struct WatchBench : tests::VfBench {
    WatchBench() { vf.reset(tests::fallback_mac); }
};

}  // namespace

TEST_CASE("nothing new is steady") {
    WatchBench bench;
    CHECK(bench.vf.watch() == Watch::steady);
}

TEST_CASE("a link that goes down and comes back is told each time, with its speed") {
    WatchBench bench;
    bench.nic.reg(VFLINKS::at()) = 0;
    CHECK(bench.vf.watch() == Watch::link_changed);
    CHECK(bench.vf.link() == Link{false, 0});
    bench.nic.reg(VFLINKS::at()) = 0x6000'0000;
    CHECK(bench.vf.watch() == Watch::link_changed);
    CHECK(bench.vf.link() == Link{true, 1'000});
}

TEST_CASE("a link that flickers is not believed") {
    WatchBench bench;
    bench.nic.reg(VFLINKS::at()) = 0;
    bench.vf.watch();
    bench.nic.scripted_loads[VFLINKS::at()] = {0x7000'0000, 0x7000'0000, 0x7000'0000, 0};
    CHECK(bench.vf.watch() == Watch::steady);
    CHECK_FALSE(bench.vf.link().up);
}

TEST_CASE("X550: bit 27 turns 10 G into 2.5 G and 100 M into 5 G") {
    tests::FakeNic nic;
    tests::FakeClock clock;
    nic.reg(VFLINKS::at()) = 0x7800'0000;
    CHECK(driver::read_link(nic, clock, Link{}).speed_mbps == 2'500);
    nic.reg(VFLINKS::at()) = 0x5800'0000;
    CHECK(driver::read_link(nic, clock, Link{}).speed_mbps == 5'000);
}

TEST_CASE("an administrator who switched the link off is obeyed") {
    tests::VfBench bench;
    bench.nic.pf.link_enabled = false;
    bench.vf.reset(tests::fallback_mac);
    CHECK_FALSE(bench.vf.link().up);
}

TEST_CASE("a PF in reset, or just out of it, asks for a reset") {
    for (const std::uint32_t bit : {VFMAILBOX::in_reset.mask, VFMAILBOX::reset_done.mask}) {
        WatchBench bench;
        bench.nic.reg(VFMAILBOX::at()) |= bit;
        CHECK(bench.vf.watch() == Watch::reset_needed);
        bench.vf.reset(tests::fallback_mac);
        CHECK(bench.vf.watch() == Watch::steady);
    }
}

TEST_CASE("a ping with clear-to-send is acknowledged and nothing more") {
    WatchBench bench;
    bench.nic.pf_sends(0x100 | driver::MessageHead::clear_to_send.mask);
    CHECK(bench.vf.watch() == Watch::steady);
    CHECK(bench.vf.watch() == Watch::steady);
}

TEST_CASE("a ping without clear-to-send asks for a reset") {
    WatchBench bench;
    bench.nic.pf_sends(0x100);
    CHECK(bench.vf.watch() == Watch::reset_needed);
}

TEST_CASE("failure without clear-to-send asks for a reset, and the reset cures it") {
    WatchBench bench;
    bench.nic.pf_sends(driver::MessageHead::failure.mask);
    CHECK(bench.vf.watch() == Watch::reset_needed);
    bench.vf.reset(tests::fallback_mac);
    CHECK(bench.vf.watch() == Watch::steady);
}

TEST_CASE("all ones twice is a device that left, once is not") {
    WatchBench bench;
    bench.nic.scripted_loads[driver::VFSTATUS::at()] = {driver::all_ones};
    CHECK(bench.vf.watch() == Watch::steady);
    bench.nic.gone = true;
    CHECK(bench.vf.watch() == Watch::gone);
}
