// The mailbox and the PF behind it, bit by bit, as drivers compare them.
#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {
namespace {

using namespace driver;
using vf_sim::Part;
using vf_sim::Policy;

constexpr std::uint32_t success = 0x8000'0000, failure = 0x4000'0000, clear_to_send = 0x2000'0000;

std::uint32_t head(MessageType type, std::uint32_t bits, std::uint32_t info = 0) {
    return head_of(type, info).raw | bits;
}
constexpr std::array<std::uint32_t, 2> words_of(const mem::EthernetAddress& address) {
    return {address[0] | address[1] << 8 | address[2] << 16 | std::uint32_t{address[3]} << 24,
            std::uint32_t{address[4]} | std::uint32_t{address[5]} << 8};
}

}  // namespace

TEST_CASE("RESET is answered with exactly 80000001, the address in memory order and the filter type") {
    Policy policy;
    policy.multicast_filter_type = 2;
    VfBench bench(policy);
    const auto words = bench.ask(MessageType::reset);
    CHECK(words[0] == 0x8000'0001);
    CHECK(words[1] == 0x0046'5602);
    CHECK(words[2] == 0x0000'0100);
    CHECK(words[3] == 2);
}

TEST_CASE(
    "without an administrator's address RESET is answered with exactly 40000001 and zeros, yet opens the mailbox") {
    VfBench bench({}, false);
    const auto words = bench.ask(MessageType::reset);
    CHECK(words[0] == 0x4000'0001);
    CHECK(words[1] == 0);
    CHECK(words[2] == 0);
    const auto address = words_of({2, 1, 2, 3, 4, 5});
    CHECK(bench.ask({head(MessageType::set_mac_address, 0), address[0], address[1]})[0] ==
          head(MessageType::set_mac_address, success | clear_to_send));
    CHECK(bench.vf.pf().address() == mem::EthernetAddress{2, 1, 2, 3, 4, 5});
}

TEST_CASE("before RESET every other message is refused without CTS, and an acknowledge draws a bare failure") {
    VfBench bench;
    CHECK(bench.ask(MessageType::set_longest_frame, 1518)[0] == head(MessageType::set_longest_frame, failure));
    bench.put(VFMAILBOX{}.with(VFMAILBOX::acknowledge, 1));
    CHECK(bench.words_now()[0] == failure);
    bench.reset();
    bench.put(VFMAILBOX{}.with(VFMAILBOX::acknowledge, 1));
    CHECK(bench.words_now()[0] != failure);
}

TEST_CASE("VFCTRL.RST takes clear-to-send away, and raises neither RSTI nor RSTD") {
    VfBench bench;
    bench.reset();
    bench.get<VFMAILBOX>();
    bench.put(VFCTRL{}.with(VFCTRL::reset, 1));
    CHECK(bench.get<VFMAILBOX>().raw == 0);
    CHECK(bench.ask(MessageType::get_queues)[0] == head(MessageType::get_queues, failure));
}

TEST_CASE("PFSTS and PFACK come with the answer and clear at the first read, together") {
    VfBench bench;
    bench.ask(MessageType::reset);
    CHECK(bench.get<VFMAILBOX>().raw == (VFMAILBOX::pf_status.mask | VFMAILBOX::pf_acknowledge.mask));
    CHECK(bench.get<VFMAILBOX>().raw == 0);
}

TEST_CASE("REQ and ACK read as 0, bits 7 to 3 cannot be written, VFU can") {
    VfBench bench;
    bench.reset();
    bench.get<VFMAILBOX>();
    bench.put(VFMAILBOX{{0xffff'fffc}});
    CHECK(bench.get<VFMAILBOX>().raw == VFMAILBOX::vf_owns.mask);
    bench.put(VFMAILBOX{});
    CHECK(bench.get<VFMAILBOX>().raw == 0);
}

TEST_CASE("a request sent while VFU is held is lost, as with a PF that tries for the buffer once") {
    VfBench bench;
    bench.reset();
    bench.get<VFMAILBOX>();
    bench.put(VFMBMEM{{head(MessageType::get_queues, 0)}}, 0u);
    bench.put(VFMAILBOX{}.with(VFMAILBOX::vf_owns, 1).with(VFMAILBOX::request, 1));
    CHECK(bench.get<VFMAILBOX>().raw == VFMAILBOX::vf_owns.mask);
    CHECK(bench.vf.messages_lost() == 1);
}

TEST_CASE("an answer keeps the type and MSGINFO and stays in memory; unknown types and old answers are told apart") {
    VfBench bench;
    bench.reset();
    CHECK(bench.ask(MessageType::set_vlan, 5, 1)[0] == head(MessageType::set_vlan, success | clear_to_send, 1));
    CHECK(bench.words_now()[0] == head(MessageType::set_vlan, success | clear_to_send, 1));
    CHECK(bench.ask({0x0000'0077})[0] == (0x77 | failure | clear_to_send));
    bench.get<VFMAILBOX>();
    CHECK(bench.ask({0x8000'0009})[0] == 0x8000'0009);  // not a request
    CHECK(bench.get<VFMAILBOX>().raw == VFMAILBOX::pf_acknowledge.mask);
}

TEST_CASE("versions above the ceiling and those that never were are refused") {
    for (const auto ceiling :
         {MailboxApi::v1_0, MailboxApi::v1_1, MailboxApi::v1_2, MailboxApi::v1_3, MailboxApi::v1_4}) {
        Policy policy;
        policy.api_ceiling = ceiling;
        VfBench bench(policy);
        bench.ask(MessageType::reset);
        for (std::uint32_t version = 0; version < 12; ++version) {
            CAPTURE(version);
            const bool accepted = version != 1 && version <= static_cast<std::uint32_t>(ceiling);
            CHECK(bench.ask(MessageType::negotiate_api, version)[0] ==
                  head(MessageType::negotiate_api, (accepted ? success : failure) | clear_to_send));
        }
    }
}

TEST_CASE("GET_QUEUES needs API 1.1, modes and link state 1.2, promiscuous 1.3") {
    Policy policy;
    policy.queues = 4;
    policy.trusted = policy.promiscuous = true;
    policy.part = Part::x540;
    VfBench bench(policy);
    const auto granted = [](const vf_sim::MailboxWords& words) { return (words[0] & success) != 0; };
    const auto mode = [](ReceiveMode value) { return static_cast<std::uint32_t>(value); };
    bench.reset(MailboxApi::v1_0);
    CHECK_FALSE(granted(bench.ask(MessageType::get_queues)));
    bench.reset(MailboxApi::v1_1);
    const auto queues = bench.ask(MessageType::get_queues);
    CHECK(std::array{queues[1], queues[2], queues[3], queues[4]} == std::array{4u, 4u, 0u, 0u});
    CHECK_FALSE(granted(bench.ask(MessageType::update_receive_mode, 1)));
    CHECK_FALSE(granted(bench.ask(MessageType::get_link_state)));
    bench.reset(MailboxApi::v1_2);
    CHECK(bench.ask(MessageType::get_link_state)[1] == 1);
    CHECK(granted(bench.ask(MessageType::update_receive_mode, mode(ReceiveMode::all_multicast))));
    CHECK_FALSE(granted(bench.ask(MessageType::update_receive_mode, mode(ReceiveMode::promiscuous))));
    bench.reset(MailboxApi::v1_3);
    CHECK(granted(bench.ask(MessageType::update_receive_mode, mode(ReceiveMode::promiscuous))));
}

TEST_CASE("an untrusted VF gets multicast hashes whatever it asks; the 82599 never gets promiscuous") {
    Policy policy;
    VfBench untrusted(policy);
    untrusted.reset();
    CHECK(untrusted.ask(MessageType::update_receive_mode, 3)[1] == 1);
    CHECK(untrusted.ask(MessageType::update_receive_mode, 2)[1] == 1);
    CHECK(untrusted.ask(MessageType::update_receive_mode, 0)[1] == 0);
    CHECK(untrusted.ask(MessageType::update_receive_mode, 4)[0] ==
          head(MessageType::update_receive_mode, failure | clear_to_send));
    policy.trusted = policy.promiscuous = true;
    VfBench i82599(policy);
    i82599.reset();
    CHECK(i82599.ask(MessageType::update_receive_mode, 3)[0] ==
          head(MessageType::update_receive_mode, failure | clear_to_send));
    policy.promiscuous = false;
    policy.part = Part::x550;
    VfBench quiet_pf(policy);
    quiet_pf.reset();
    CHECK(quiet_pf.ask(MessageType::update_receive_mode, 3)[0] ==
          head(MessageType::update_receive_mode, failure | clear_to_send));
}

TEST_CASE("an untrusted VF keeps its address and gets no second one; a trusted one may choose") {
    const auto other = words_of({2, 9, 9, 9, 9, 9});
    for (const bool trusted : {false, true}) {
        CAPTURE(trusted);
        Policy policy;
        policy.trusted = trusted;
        VfBench bench(policy);
        bench.reset();
        const std::uint32_t verdict = (trusted ? success : failure) | clear_to_send;
        CHECK(bench.ask({head(MessageType::set_mac_vlan, 0, 1), other[0], other[1]})[0] ==
              head(MessageType::set_mac_vlan, verdict, 1));
        CHECK(bench.vf.pf().spoof_check() == !trusted);
        CHECK(bench.ask({head(MessageType::set_mac_vlan, 0, 0)})[0] ==
              head(MessageType::set_mac_vlan, success | clear_to_send, 0));
        CHECK(bench.ask({head(MessageType::set_mac_address, 0), other[0], other[1]})[0] ==
              head(MessageType::set_mac_address, verdict));
        const auto multicast = words_of({3, 0, 0, 0, 0, 1});
        CHECK(bench.ask({head(MessageType::set_mac_address, 0), multicast[0], multicast[1]})[0] ==
              head(MessageType::set_mac_address, failure | clear_to_send));
    }
}

TEST_CASE("SET_LPE: 68 to 9728; an 82599 follows its PF, and receive stays shut until it is told") {
    const auto granted = [](VfBench& bench, std::uint32_t bytes) {
        return (bench.ask(MessageType::set_longest_frame, bytes)[0] & success) != 0;
    };
    Policy policy;
    VfBench standard(policy);
    standard.reset();
    CHECK(standard.vf.pf().receive_enabled());
    CHECK(granted(standard, 1518));
    CHECK_FALSE(granted(standard, 1519));
    CHECK_FALSE(standard.vf.pf().receive_enabled());  // VFRE goes with the refusal
    CHECK(granted(standard, 1518));
    CHECK(standard.vf.pf().receive_enabled());

    policy.mtu_bytes = 9000;
    VfBench jumbo(policy);
    jumbo.reset();
    CHECK_FALSE(jumbo.vf.pf().receive_enabled());
    CHECK(granted(jumbo, 9018));
    CHECK(jumbo.vf.pf().receive_enabled());
    jumbo.reset(MailboxApi::v1_0);
    CHECK_FALSE(granted(jumbo, 1518));

    policy.mtu_bytes = 1500;
    policy.part = Part::x540;
    VfBench x540(policy);
    x540.reset();
    CHECK_FALSE(granted(x540, 67));
    CHECK_FALSE(granted(x540, 9729));
    CHECK(granted(x540, 9728));
    CHECK(granted(x540, 1518));
    CHECK(x540.vf.pf().longest_frame_bytes() == 9728);  // never lowered
}

TEST_CASE("VLANs: only those allowed; removing VLAN 0 succeeds and does nothing") {
    Policy policy;
    policy.vlans.reset();
    policy.vlans.set(0).set(7);
    VfBench bench(policy);
    bench.reset();
    CHECK((bench.ask(MessageType::set_vlan, 7, 1)[0] & success) != 0);
    CHECK((bench.ask(MessageType::set_vlan, 8, 1)[0] & failure) != 0);
    CHECK((bench.ask(MessageType::set_vlan, 0, 1)[0] & success) != 0);
    CHECK((bench.ask(MessageType::set_vlan, 0, 0)[0] & success) != 0);
    CHECK(bench.vf.pf().filter().in_vlan(0));
    CHECK(bench.vf.pf().filter().in_vlan(7));
    CHECK_FALSE(bench.vf.pf().filter().in_vlan(8));
    bench.reset();
    CHECK_FALSE(bench.vf.pf().filter().in_vlan(7));
}

TEST_CASE("IPsec is refused as by a PF that has it off: a negative word 1, which Linux takes for the reason") {
    Policy policy;
    policy.api_ceiling = MailboxApi::v1_4;
    policy.trusted = true;
    VfBench bench(policy);
    bench.reset(MailboxApi::v1_4);
    CHECK(bench.vf.pf().api() == MailboxApi::v1_4);
    const auto answer = bench.ask(MessageType::add_ipsec, 0x1234);
    CHECK(answer[0] == head(MessageType::add_ipsec, failure | clear_to_send));
    CHECK(static_cast<std::int32_t>(answer[1]) < 0);
    CHECK(bench.ask(MessageType::delete_ipsec)[0] == head(MessageType::delete_ipsec, failure | clear_to_send));
}

TEST_CASE("RSS table and key are told when the PF permits, and never by an X550") {
    Policy policy;
    VfBench closed(policy);
    closed.reset();
    CHECK((closed.ask(MessageType::get_rss_table)[0] & failure) != 0);
    policy.rss_query = true;
    VfBench open(policy);
    open.reset();
    const auto table = open.ask(MessageType::get_rss_table);
    CHECK(table[0] == head(MessageType::get_rss_table, success | clear_to_send));
    for (unsigned word = 1; word <= 8; ++word) CHECK(table[word] == 0xe4e4'e4e4);  // 0, 1, 2, 3, two bits each
    CHECK(open.ask(MessageType::get_rss_key)[1] == 0xda56'5a6d);
    policy.part = Part::x550;
    VfBench x550(policy);
    x550.reset();
    CHECK((x550.ask(MessageType::get_rss_key)[0] & failure) != 0);
}

TEST_CASE("a PF reset: ping without CTS and RSTI, then RSTD and a ping; the VF's acknowledge draws a bare failure") {
    VfBench bench;
    bench.reset();
    bench.enable_rx();
    bench.get<VFMAILBOX>();
    const vf_sim::Time start{std::chrono::seconds(100)};
    bench.vf.advance(start);
    bench.vf.reset_pf(std::chrono::milliseconds(10));
    CHECK(bench.words_now()[0] == 0x0100);
    CHECK(bench.get<VFMAILBOX>().raw == (VFMAILBOX::pf_status.mask | VFMAILBOX::in_reset.mask));
    CHECK(bench.get<VFRXDCTL>(0u).get(VFRXDCTL::enable) == 0);
    bench.ask(MessageType::reset);  // nobody is there
    CHECK(bench.get<VFMAILBOX>().raw == VFMAILBOX::in_reset.mask);

    bench.vf.advance(start + std::chrono::milliseconds(9));
    CHECK(bench.get<VFMAILBOX>().raw == VFMAILBOX::in_reset.mask);
    bench.vf.advance(start + std::chrono::milliseconds(10));
    CHECK(bench.words_now()[0] == 0x0100);
    CHECK(bench.get<VFMAILBOX>().raw == (VFMAILBOX::pf_status.mask | VFMAILBOX::reset_done.mask));
    bench.put(VFMAILBOX{}.with(VFMAILBOX::acknowledge, 1));
    CHECK(bench.words_now()[0] == failure);
    bench.reset();
    CHECK(bench.vf.pf().clear_to_send());
}

TEST_CASE("a link change is pinged with CTS, and VFLINKS says it once more by its latch") {
    VfBench bench;
    bench.reset();
    CHECK(bench.get<VFLINKS>().raw == 0xf000'0080);
    bench.vf.set_link(false);
    CHECK(bench.words_now()[0] == (0x0100 | clear_to_send));
    CHECK(bench.get<VFLINKS>().raw == 0);
    CHECK(bench.get<VFSTATUS>().get(VFSTATUS::link_up) == 0);
    bench.vf.set_link(true);
    CHECK(bench.get<VFLINKS>().raw == 0xf000'0000);  // it was down since the last read
    CHECK(bench.get<VFLINKS>().raw == 0xf000'0080);
}

}  // namespace vitrine::sim_test
