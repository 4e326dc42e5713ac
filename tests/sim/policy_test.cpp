// What the administrator of the PF can change while the VF runs, and what the VF sees of it.
#include <cstring>

#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/port_watchdog.hpp"

namespace vitrine::sim_test {

using namespace driver;
using namespace std::chrono_literals;
using vf_sim::LinkState;
using vf_sim::Part;
using vf_sim::Policy;
using vf_sim::RxOutcome;

namespace {

constexpr std::uint32_t success = 0x8000'0000;
constexpr vf_sim::Time start{100s};

/// Up, with both rings of queue 0 and its time begun.
struct PolicyBench : VfBench {
    explicit PolicyBench(const Policy& policy = {}) : VfBench(policy) {
        vf.advance(start);
        bring_up();
    }
    void bring_up() {
        reset();
        enable_rx();
        post(slots - 1);
        enable_tx();
        next_ = 0;
    }
    void send(const std::vector<std::byte>& frame) {
        std::memcpy(bytes(next_).data(), frame.data(), frame.size());
        tx(next_) = {buffer(next_).raw, last(frame.size()).raw};
        next_ = (next_ + 1) % slots;
        put(VFTDT{{next_}}, 0u);
        transmit();
    }
    static std::vector<std::byte> own_frame(std::size_t bytes = 60) { return frame({2, 0, 0, 0, 0, 9}, bytes, own); }
    bool asked_to_reset() {
        return (get<VFMAILBOX>().raw & VFMAILBOX::pf_status.mask) != 0 && words_now()[0] == 0x0100;
    }

private:
    std::uint32_t next_ = 0;
};

}  // namespace

TEST_CASE("an address set by the administrator counts at once, and RESET tells it") {
    PolicyBench bench;
    const mem::EthernetAddress other{2, 7, 7, 7, 7, 7};
    bench.vf.set_mac(other);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::filtered_mac);
    CHECK(bench.vf.receive(VfBench::frame(other)) == RxOutcome::delivered);
    CHECK(bench.ask(MessageType::reset)[1] == 0x0707'0702);
    bench.vf.set_mac(std::nullopt);
    CHECK(bench.vf.receive(VfBench::frame(other)) == RxOutcome::filtered_mac);
    CHECK(bench.ask(MessageType::reset)[0] == 0x4000'0001);
}

TEST_CASE("a port VLAN is put into what leaves and taken out of what arrives, and the VF may have no VLAN of its own") {
    PolicyBench bench;
    bench.ask(MessageType::set_vlan, 5, 1);
    bench.vf.set_port_vlan(77);
    CHECK(bench.ask(MessageType::get_queues)[3] == 1);
    CHECK((bench.ask(MessageType::set_vlan, 6, 1)[0] & success) == 0);
    CHECK((bench.ask(MessageType::set_vlan, 0, 0)[0] & success) == 0);

    const auto plain = VfBench::frame(VfBench::own, 80);
    CHECK(bench.vf.receive(plain) == RxOutcome::filtered_vlan);
    CHECK(bench.vf.receive(VfBench::tagged(plain, 5)) == RxOutcome::filtered_vlan);
    CHECK(bench.vf.receive(VfBench::tagged(plain, 0x2000 | 77)) == RxOutcome::delivered);
    const RxDone done{{bench.rx(0).done}};
    CHECK(done.get(RxDone::length_bytes) == 80);
    CHECK(done.get(RxDone::vlan) == 0);
    CHECK(done.get(RxDone::vlan_tag) == 0);
    CHECK(std::memcmp(bench.bytes(0).data(), plain.data(), plain.size()) == 0);

    bench.send(PolicyBench::own_frame());
    REQUIRE(bench.sent.size() == 1);
    CHECK(bench.sent[0] == VfBench::tagged(PolicyBench::own_frame(), 77));
    for (const bool checked : {true, false}) {
        bench.vf.set_spoof_check(checked);
        bench.send(VfBench::tagged(PolicyBench::own_frame(), 77));
    }
    CHECK(bench.sent.size() == 1);
    CHECK(bench.vf.tx_counters().spoofed == 2);
    bench.vf.set_port_vlan(0);
    CHECK(bench.ask(MessageType::get_queues)[3] == 0);
    CHECK(bench.vf.receive(plain) == RxOutcome::delivered);
}

TEST_CASE("trust and link state ask the VF to reset by a ping without CTS; the same trust again asks nothing") {
    PolicyBench bench;
    bench.get<VFMAILBOX>();
    bench.vf.set_trusted(true);
    CHECK(bench.asked_to_reset());
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::delivered);  // until the VF resets
    bench.put(VFMAILBOX{}.with(VFMAILBOX::acknowledge, 1));
    CHECK(bench.words_now()[0] == 0x4000'0000);
    bench.bring_up();
    CHECK(bench.ask(MessageType::update_receive_mode, 2)[1] == 2);
    bench.get<VFMAILBOX>();
    bench.vf.set_trusted(true);
    CHECK_FALSE(bench.asked_to_reset());
}

TEST_CASE("a link that the administrator disabled carries nothing, and GET_LINK_STATE says so") {
    PolicyBench bench;
    bench.get<VFMAILBOX>();
    bench.vf.set_link_state(LinkState::disabled);
    CHECK(bench.asked_to_reset());
    CHECK(bench.get<VFLINKS>().get(VFLINKS::up) == 1);  // the cable is there
    bench.bring_up();
    CHECK(bench.ask(MessageType::get_link_state)[1] == 0);
    CHECK(bench.vf.receive(VfBench::frame(VfBench::own)) == RxOutcome::rx_disabled);
    bench.send(PolicyBench::own_frame());
    CHECK(bench.sent.empty());
    bench.vf.set_link_state(LinkState::automatic);
    CHECK(bench.asked_to_reset());
    bench.bring_up();
    CHECK(bench.ask(MessageType::get_link_state)[1] == 1);
    bench.send(PolicyBench::own_frame());
    CHECK(bench.sent.size() == 1);
}

TEST_CASE("a rate lets through what it says and not more, and says when the next frame may go") {
    Policy policy;
    policy.rate_mbps = 100;
    PolicyBench bench(policy);
    constexpr std::size_t frame_bytes = 1226;  // 10,000 bits with preamble, CRC and gap: 100 us each
    vf_sim::Time now = start;
    while (bench.vf.tx_counters().sent == bench.sent.size() && bench.sent.size() < 100 && !bench.vf.due())
        bench.send(PolicyBench::own_frame(frame_bytes));  // what had gathered before
    REQUIRE(bench.vf.due());
    const std::size_t before = bench.sent.size();
    for (int i = 0; i < 1000; ++i) {
        now += 100us;
        bench.vf.advance(now);
        if (bench.get<VFTDH>(0u).raw == bench.get<VFTDT>(0u).raw) bench.send(PolicyBench::own_frame(frame_bytes));
        bench.transmit();
    }
    CHECK(bench.sent.size() - before >= 995);
    CHECK(bench.sent.size() - before <= 1005);
    bench.vf.set_rate(0);
    CHECK_FALSE(bench.vf.due());
}

TEST_CASE("a new MTU resets the port; an 82599 then receives long frames after SET_LPE") {
    PolicyBench bench;
    bench.vf.set_mtu(9000, 10ms);
    CHECK(bench.get<VFMAILBOX>().get(VFMAILBOX::in_reset) == 1);
    bench.vf.advance(start + 10ms);
    bench.get<VFMAILBOX>();
    bench.reset();
    CHECK_FALSE(bench.vf.pf().receive_enabled());
    CHECK((bench.ask(MessageType::set_longest_frame, 9018)[0] & success) != 0);
    CHECK(bench.vf.pf().receive_enabled());
    CHECK(bench.vf.pf().longest_frame_bytes() == 9018);
}

TEST_CASE("VFs of one port share the longest frame") {
    Policy policy;
    policy.part = Part::x540;
    const auto port = std::make_shared<vf_sim::Port>();
    vf_sim::Vf first(policy, port);
    vf_sim::Vf second(policy, port);
    first.store(VFMBMEM::at(0), head_of(MessageType::reset).raw);
    first.store(VFMAILBOX::at(), VFMAILBOX::request.mask);
    first.store(VFMBMEM::at(0), head_of(MessageType::set_longest_frame).raw);
    first.store(VFMBMEM::at(1), 9018);
    first.store(VFMAILBOX::at(), VFMAILBOX::request.mask);
    CHECK(second.pf().longest_frame_bytes() == 9018);
}

TEST_CASE("the query of RSS table and key opens and closes while the VF runs, and so does promiscuous") {
    Policy policy;
    policy.part = Part::x540;
    policy.trusted = true;
    PolicyBench bench(policy);
    CHECK((bench.ask(MessageType::get_rss_key)[0] & success) == 0);
    bench.vf.set_rss_query(true);
    CHECK((bench.ask(MessageType::get_rss_key)[0] & success) != 0);
    CHECK((bench.ask(MessageType::update_receive_mode, 3)[0] & success) == 0);
    bench.vf.set_promiscuous(true);
    CHECK(bench.ask(MessageType::update_receive_mode, 3)[1] == 3);
}

TEST_CASE("a PF that finds frames to send two seconds after its link was lost resets the port, once") {
    PolicyBench bench;
    vf_sim::PortWatchdog watchdog;
    CHECK_FALSE(watchdog.expired(start, true, true));
    bench.vf.set_link(false);
    CHECK_FALSE(bench.vf.transmit_pending());
    bench.send(PolicyBench::own_frame());
    CHECK(bench.sent.empty());
    CHECK(bench.vf.transmit_pending());
    CHECK_FALSE(watchdog.expired(start + 1999ms, false, bench.vf.transmit_pending()));
    CHECK(watchdog.expired(start + 2000ms, false, bench.vf.transmit_pending()));
    bench.vf.reset_pf(vf_sim::PortWatchdog::reset_length);
    CHECK_FALSE(bench.vf.transmit_pending());
    CHECK_FALSE(watchdog.expired(start + 4000ms, false, bench.vf.transmit_pending()));
    CHECK_FALSE(watchdog.expired(start + 5000ms, true, true));
    CHECK_FALSE(watchdog.expired(start + 6000ms, false, true));  // two seconds from the loss on
}

}  // namespace vitrine::sim_test
