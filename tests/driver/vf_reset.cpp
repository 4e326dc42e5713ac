#include <algorithm>
#include <string_view>
#include <system_error>

#include <doctest/doctest.h>

#include "driver/queues.hpp"
#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using namespace std::chrono_literals;
using tests::VfBench;
constexpr auto fallback = tests::fallback_mac;

namespace {

int reset_error(VfBench& bench) {
    try {
        bench.vf.reset(fallback);
    } catch (const std::system_error& error) {
        return error.code().value();
    }
    return 0;
}

}  // namespace

TEST_CASE("82599 4.5.1: a reset comes first, then RESET, then the API, then all other messages") {
    VfBench bench;
    const driver::Identity& identity = bench.vf.reset(fallback);
    REQUIRE(bench.nic.history.size() == 5);
    CHECK(bench.nic.history[0] == "reset");
    CHECK(bench.nic.history[1] == "message 1");   // RESET
    CHECK(bench.nic.history[2] == "message 8");   // API_NEGOTIATE
    CHECK(bench.nic.history[3] == "message 9");   // GET_QUEUES
    CHECK(bench.nic.history[4] == "message 16");  // GET_LINK_STATE
    CHECK(identity.mac == driver::MacAddress{0x00, 0x1b, 0x21, 1, 2, 3});
    CHECK(identity.mac_from_pf);
    CHECK(identity.api == driver::MailboxApi::v1_3);
    CHECK(identity.tx_queues == 2);
    CHECK(identity.rx_queues == 4);
    CHECK(bench.vf.link() == driver::Link{true, 10'000});
}

TEST_CASE("82599 specification update, clarification 5: a reset leaves no queue register to chance") {
    VfBench bench;
    bench.vf.reset(fallback);
    CHECK(bench.nic.reg(driver::VFPSRTYPE::at()) == 0);
    for (unsigned queue = 0; queue < driver::queue_slots; ++queue) {
        for (const std::uint32_t offset :
             {driver::VFRDH::at(queue), driver::VFRDT::at(queue), driver::VFRXDCTL::at(queue),
              driver::VFRSCCTL::at(queue), driver::VFTDH::at(queue), driver::VFTDT::at(queue),
              driver::VFTXDCTL::at(queue), driver::VFTDWBAL::at(queue), driver::VFTDWBAH::at(queue)})
            CHECK(bench.nic.reg(offset) == 0);
        CHECK(bench.nic.reg(driver::VFSRRCTL::at(queue)) == 0x402);
        CHECK(bench.nic.reg(driver::VFDCA_RXCTRL::at(queue)) == 1u << 9);
        CHECK(bench.nic.reg(driver::VFDCA_TXCTRL::at(queue)) == (1u << 9 | 1u << 13));
    }
}

TEST_CASE("the API falls back one version at a time when the PF refuses") {
    for (const auto newest : {driver::MailboxApi::v1_2, driver::MailboxApi::v1_1, driver::MailboxApi::v1_0}) {
        VfBench bench;
        bench.nic.pf.newest_api = newest;
        CHECK(bench.vf.reset(fallback).api == newest);
        CHECK(bench.nic.pf.count(driver::MessageType::negotiate_api) == (newest == driver::MailboxApi::v1_2   ? 2
                                                                         : newest == driver::MailboxApi::v1_1 ? 3
                                                                                                              : 4));
        CHECK(bench.nic.pf.count(driver::MessageType::get_queues) == (newest == driver::MailboxApi::v1_0 ? 0 : 1));
        CHECK(bench.nic.pf.count(driver::MessageType::get_link_state) == (newest == driver::MailboxApi::v1_2 ? 1 : 0));
    }
}

TEST_CASE("a PF without an address for us is told ours") {
    VfBench bench;
    bench.nic.pf.mac.reset();
    const driver::Identity& identity = bench.vf.reset(fallback);
    CHECK(identity.mac == fallback);
    CHECK_FALSE(identity.mac_from_pf);
    const auto& request = bench.nic.pf.last(driver::MessageType::set_mac_address);
    CHECK(request[1] == 0x3322'1102);
    CHECK(request[2] == 0x5544);
}

TEST_CASE("an address that no station can have counts as none") {
    for (const driver::MacAddress nonsense : {driver::MacAddress{}, driver::MacAddress{1, 2, 3, 4, 5, 6}}) {
        VfBench bench;
        bench.nic.pf.mac = nonsense;
        CHECK(bench.vf.reset(fallback).mac == fallback);
    }
}

TEST_CASE("a PF that neither gives nor takes an address is an error") {
    VfBench bench;
    bench.nic.pf.mac.reset();
    bench.nic.pf.takes_mac_address = false;
    CHECK(reset_error(bench) == EPERM);
}

TEST_CASE("a silent PF is a named error within two seconds") {
    VfBench bench;
    bench.nic.pf.silent = true;
    const auto before = bench.clock.now();
    try {
        bench.vf.reset(fallback);
        FAIL("no error");
    } catch (const std::system_error& error) {
        CHECK(error.code().value() == ETIMEDOUT);
        CHECK(std::string_view(error.what()).find("VF mailbox RESET: the PF is silent") == 0);
    }
    CHECK(bench.clock.now() - before < 2s);
}

TEST_CASE("a PF that stays in reset is a named error") {
    VfBench bench;
    bench.nic.loads_until_reset_done = 1'000'000;
    CHECK(reset_error(bench) == ETIMEDOUT);
    CHECK(bench.nic.pf.requests.empty());
}

TEST_CASE("a PF that never lets go of the mailbox is a named error") {
    VfBench bench;
    bench.nic.pf_holds_mailbox = true;
    CHECK(reset_error(bench) == ETIMEDOUT);
}

TEST_CASE("numbers of queues that cannot be are not believed") {
    VfBench bench;
    bench.nic.pf.tx_queues = 0;
    bench.nic.pf.rx_queues = 0xffff'ffff;
    const driver::Identity& identity = bench.vf.reset(fallback);
    CHECK(identity.tx_queues == 1);
    CHECK(identity.rx_queues == driver::queue_slots);
}

TEST_CASE("a second reset works like the first, whatever was running") {
    VfBench bench;
    bench.vf.reset(fallback);
    driver::start_receive_queue(bench.nic, bench.clock, 0, {mem::Iova{0x10'0000}, 64}, 2);
    driver::start_transmit_queue(bench.nic, bench.clock, 0, {mem::Iova{0x20'0000}, 64});
    bench.nic.store(driver::VTEIMS::at(), 3);
    bench.vf.reset(fallback);
    CHECK((bench.nic.reg(driver::VFRXDCTL::at(0)) & driver::VFRXDCTL::enable.mask) == 0);
    CHECK((bench.nic.reg(driver::VFTXDCTL::at(0)) & driver::VFTXDCTL::enable.mask) == 0);
    CHECK(bench.nic.reg(driver::VTEIMS::at()) == 0);
}

TEST_CASE("SET_LPE says whether the PF allows the frame size") {
    VfBench bench;
    bench.nic.pf.longest_frame_bytes = 1518;
    bench.vf.reset(fallback);
    CHECK(bench.vf.set_longest_frame(1518));
    CHECK(bench.nic.pf.last(driver::MessageType::set_longest_frame)[1] == 1518);
    CHECK_FALSE(bench.vf.set_longest_frame(9018));
}

TEST_CASE("a request that the PF answers with failure and without clear-to-send asks for a reset") {
    VfBench bench;
    bench.vf.reset(fallback);
    bench.nic.pf.clear_to_send = false;
    try {
        bench.vf.set_longest_frame(1518);
        FAIL("no error");
    } catch (const std::system_error& error) {
        CHECK(error.code().value() == ECONNRESET);
    }
}
