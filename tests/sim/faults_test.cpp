// Each fault that the model can be told to have, and how soon our driver notices, by a clock that only the test moves.
#include <system_error>

#include "tests/sim/fault_bench.hpp"
#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {
namespace {

using namespace std::chrono_literals;
using driver::index_of;
using driver::Trouble;
using driver::Troubles;
using driver::Watch;
using vf_sim::RxOutcome;

Troubles only(Trouble trouble) {
    return Troubles{1u << index_of(trouble)};
}

/// The errno of a start that fails, and how long it took; 0 when it works.
std::pair<int, std::chrono::nanoseconds> try_start(FaultBench& bench) {
    const auto begin = bench.clock().now();
    try {
        bench.start();
        return {0, bench.clock().now() - begin};
    } catch (const std::system_error& error) {
        return {error.code().value(), bench.clock().now() - begin};
    }
}

/// The ring gives nothing while the wire sends: named within four seconds, and a new start helps once the cause is
/// gone.
void expect_stall_and_recovery(FaultBench& bench) {
    Troubles seen;
    for (int seconds = 0; seconds < 4 && seen.none(); ++seconds) {
        bench.wire_sends();
        CHECK(bench.receive() == 0);
        seen = bench.second();
    }
    CHECK(seen == only(Trouble::rx_stalled));
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

}  // namespace

TEST_CASE("fault mailbox-silent: a reset gives up within 1.1 s, and works once the PF speaks") {
    FaultBench bench;
    bench.fault("mailbox-silent");
    bench.expect_traffic();  // nobody talks to the PF while all is well
    const auto [error, took] = try_start(bench);
    CHECK(error == ETIMEDOUT);
    CHECK(took <= 1100ms);
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

TEST_CASE("fault mailbox-nack: a reset fails at once, because the PF refuses even an address") {
    FaultBench bench;
    bench.fault("mailbox-nack");
    const auto [error, took] = try_start(bench);
    CHECK(error == EPERM);
    CHECK(took <= 200ms);
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    CHECK(bench.vf.identity().mac == FaultBench::own);
    bench.expect_traffic();
}

TEST_CASE("fault mailbox-version: an answer with another version is not believed, and 1.0 works") {
    FaultBench bench;
    bench.fault("mailbox-version");
    CHECK(try_start(bench).first == 0);
    CHECK(bench.vf.identity().api_misreported);
    CHECK(bench.vf.identity().api == driver::MailboxApi::v1_0);
    bench.expect_traffic();
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    CHECK_FALSE(bench.vf.identity().api_misreported);
    CHECK(bench.vf.identity().api == driver::MailboxApi::v1_3);
}

TEST_CASE("fault rsti: the next look asks for a reset, which fails for as long as RSTI stays") {
    FaultBench bench;
    bench.fault("rsti");
    CHECK(bench.vf.watch() == Watch::reset_needed);
    const auto [error, took] = try_start(bench);
    CHECK(error == ETIMEDOUT);
    CHECK(took <= 200ms);
    bench.fault("clear");
    CHECK(bench.vf.watch() == Watch::reset_needed);  // RSTD
    if (try_start(bench).first != 0) CHECK(try_start(bench).first == 0);
    CHECK(bench.vf.watch() == Watch::steady);
    bench.expect_traffic();
}

TEST_CASE("fault link-flap: each change is seen at the next look") {
    FaultBench bench;
    bench.fault("link-flap 1500");
    bench.clock().sleep_for(1ms);
    CHECK(bench.vf.watch() == Watch::link_changed);
    CHECK_FALSE(bench.vf.link().up);
    CHECK(bench.wire_sends() == RxOutcome::link_down);
    CHECK(bench.model().due() == vf_sim::Time(bench.clock().now()) + 1500ms);
    bench.clock().sleep_for(1500ms);
    CHECK(bench.vf.watch() == Watch::link_changed);
    CHECK(bench.vf.link().up);
    bench.clock().sleep_for(1500ms);
    bench.fault("clear");
    CHECK(bench.vf.watch() == Watch::steady);  // up again before anybody looked
    bench.expect_traffic();
}

TEST_CASE("fault removed: registers and configuration read all ones, the next look says that it is gone") {
    FaultBench bench;
    bench.fault("removed");
    CHECK(bench.model().load(driver::VFLINKS::at()) == driver::all_ones);
    CHECK(bench.model().load(driver::VFTDH::at(0)) == driver::all_ones);
    std::array<std::byte, 4> id{};
    bench.model().read_config(0, id);
    CHECK(std::ranges::all_of(id, [](std::byte byte) { return byte == std::byte{0xff}; }));
    CHECK(bench.vf.watch() == Watch::gone);
    CHECK(bench.wire_sends() == RxOutcome::rx_disabled);
    bench.send();
    CHECK(bench.transmit() == 0);
    bench.fault("clear");
    bench.model().write_config(4, std::array{std::byte{4}, std::byte{0}});
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

TEST_CASE("fault dma: both directions stand still, and are called so within 4 s of traffic") {
    FaultBench bench;
    bench.fault("dma");
    bench.send();
    Troubles seen;
    for (int seconds = 0; seconds < 4; ++seconds) {
        CHECK(bench.wire_sends() == RxOutcome::dma_fault);
        CHECK(bench.transmit() == 0);
        CHECK(bench.receive() == 0);
        seen |= bench.second();
    }
    CHECK(seen == (only(Trouble::tx_stuck) | only(Trouble::rx_stalled)));
    CHECK(bench.model().memory().faults().unmapped > 0);
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

TEST_CASE("fault tx-stuck and tx-lost: a queue that finishes nothing is stuck within 4 s, and a reset frees it") {
    for (const std::string fault : {"tx-stuck", "tx-lost"}) {
        CAPTURE(fault);
        FaultBench bench;
        bench.fault(fault);
        bench.send();
        CHECK(bench.transmit() == (fault == "tx-lost" ? 1 : 0));
        CHECK(bench.finished == 0);
        Troubles seen;
        for (int seconds = 0; seconds < 4 && seen.none(); ++seconds) seen = bench.second();
        CHECK(seen == only(Trouble::tx_stuck));
        bench.fault("clear");
        CHECK(try_start(bench).first == 0);
        bench.expect_traffic();
    }
}

TEST_CASE("fault rx-stall: frames that are counted and never written are a stall within 4 s of traffic") {
    FaultBench bench;
    bench.fault("rx-stall");
    Troubles seen;
    for (int seconds = 0; seconds < 4 && seen.none(); ++seconds) {
        CHECK(bench.wire_sends() == RxOutcome::stalled);
        seen = bench.second();
    }
    CHECK(seen == only(Trouble::rx_stalled));
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

TEST_CASE("fault rx-delay: write-backs come late by as much, in order, and long ones are a stall") {
    FaultBench bench;
    bench.fault("rx-delay 500");
    for (int frame = 0; frame < 5; ++frame) CHECK(bench.wire_sends() == RxOutcome::delivered);
    bench.clock().sleep_for(499ms);
    CHECK(bench.receive() == 0);
    bench.clock().sleep_for(1ms);
    CHECK(bench.receive() == 5);
    CHECK(bench.second().none());

    bench.fault("rx-delay 60000");
    Troubles seen;
    for (int seconds = 0; seconds < 4 && seen.none(); ++seconds) {
        bench.wire_sends();
        seen = bench.second();
    }
    CHECK(seen == only(Trouble::rx_stalled));
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.clock().sleep_for(60s);  // what was late when the queue stopped must not come any more
    CHECK(bench.receive() == 0);
    bench.expect_traffic();
}

TEST_CASE("fault lie: a ring that was used up unseen, before anybody looked, is stalled all the same") {
    FaultBench bench;
    bench.fault("lie done 0");
    for (std::size_t frame = 0; frame < FaultBench::slots - 1; ++frame) bench.wire_sends();
    CHECK(bench.wire_sends() == RxOutcome::no_descriptor);
    CHECK(bench.second().none());
    CHECK(bench.second().none());
    CHECK(bench.second() == only(Trouble::rx_stalled));
    bench.fault("clear");
    CHECK(try_start(bench).first == 0);
    bench.expect_traffic();
}

TEST_CASE("fault rx-reorder: the gap is counted when it is met, and frames arrive in order") {
    FaultBench bench;
    bench.fault("rx-reorder 10");
    for (int frame = 0; frame < 6; ++frame) CHECK(bench.wire_sends() == RxOutcome::delivered);
    CHECK(bench.receive() == 0);
    CHECK(bench.rx().counters().out_of_order == 1);
    bench.clock().sleep_for(10ms);
    CHECK(bench.receive() == 6);
    CHECK(bench.second()[index_of(Trouble::out_of_order)]);
    bench.fault("clear");
    bench.expect_traffic();
}

TEST_CASE("fault rx-duplicate: more frames than the NIC counted, said at the next look") {
    FaultBench bench;
    bench.fault("rx-duplicate");
    CHECK(bench.wire_sends() == RxOutcome::delivered);
    CHECK(bench.receive() == 1);  // the second one's buffer was never written
    CHECK(bench.rx().counters().frames == 2);
    CHECK(bench.second() == only(Trouble::rx_surplus));
    bench.fault("clear");
    bench.expect_traffic();
}

TEST_CASE("fault lie: a length beyond the buffer, or none, is refused and said at the next look") {
    for (const std::string length : {"0", "2049", "65535"}) {
        CAPTURE(length);
        FaultBench bench;
        bench.fault("lie length " + length);
        bench.wire_sends();
        CHECK(bench.receive() == 0);
        CHECK(bench.rx().counters().bad_descriptors == 1);
        CHECK(bench.second() == only(Trouble::bad_descriptor));
        bench.fault("clear");
        bench.expect_traffic();
    }
}

TEST_CASE("fault lie: a length within the buffer that is not the frame's gives more bytes than the NIC counted") {
    FaultBench bench;
    bench.fault("lie length 2000");
    bench.wire_sends();
    CHECK(bench.receive() == 0);  // the stamp does not fit
    CHECK(bench.second() == only(Trouble::rx_surplus));
    bench.fault("clear");
    bench.expect_traffic();
}

TEST_CASE("fault lie: error bits drop the frame and are said, a descriptor that is never done is a stall") {
    FaultBench bench;
    bench.fault("lie mac-error 1");
    bench.wire_sends();
    CHECK(bench.receive() == 0);
    CHECK(bench.second() == only(Trouble::rx_error));
    bench.fault("clear");
    bench.expect_traffic();

    bench.fault("lie done 0");
    expect_stall_and_recovery(bench);
}

TEST_CASE("fault lie: frames without an end are no frames, so the NIC counts what no ring gives") {
    FaultBench bench;
    bench.fault("lie end-of-packet 0");
    expect_stall_and_recovery(bench);
}

TEST_CASE("fault lie: fields that the driver does not believe in change nothing") {
    for (const std::string lie :
         {"rss-type 15", "packet-type 8191", "header-length 1023", "rss-hash 4294967295", "vlan 1", "udp-checked 1",
          "l4-checked 1", "ip-checked 1", "loopback 1", "l4-error 1", "ip-error 1", "vlan-tag 65535"}) {
        CAPTURE(lie);
        FaultBench bench;
        bench.fault("lie " + lie);
        bench.expect_traffic();
    }
}

TEST_CASE("several faults hold at once, clear ends them all, and nonsense changes nothing") {
    FaultBench bench;
    bench.fault("tx-stuck");
    bench.fault("rx-stall");
    CHECK(bench.model().faults().tx_stuck);
    CHECK(bench.model().faults().rx_stall);
    for (const std::string nonsense : {"", "gremlins", "rx-delay", "rx-delay 0", "rx-delay 60001", "lie", "lie nose 3",
                                       "lie length 65536", "lie done 2", "dma now"}) {
        CAPTURE(nonsense);
        CHECK_THROWS_AS(bench.fault(nonsense), std::invalid_argument);
    }
    CHECK_FALSE(bench.model().faults().dma);
    bench.fault("clear");
    CHECK_FALSE(bench.model().faults().tx_stuck);
    bench.expect_traffic();
}

}  // namespace vitrine::sim_test
