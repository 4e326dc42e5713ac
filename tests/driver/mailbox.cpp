#include "driver/mailbox.hpp"

#include <system_error>

#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using driver::MessageHead;
using driver::VFMAILBOX;

namespace {

struct MailboxBench {
    tests::FakeNic nic;
    tests::FakeClock clock;
    driver::Mailbox<tests::FakeNic, tests::FakeClock> mailbox{nic, clock};

    MailboxBench() { nic.pf.clear_to_send = true; }
    ~MailboxBench() {
        for (const std::string& violation : nic.violations) FAIL_CHECK(violation);
    }
};

constexpr std::uint32_t longest_frame = std::to_underlying(driver::MessageType::set_longest_frame);

}  // namespace

TEST_CASE("82599 8.3.5.1.5: one read clears three events, and none of them is lost") {
    MailboxBench bench;
    bench.nic.reg(VFMAILBOX::at()) =
        VFMAILBOX::pf_status.mask | VFMAILBOX::pf_acknowledge.mask | VFMAILBOX::reset_done.mask;
    bench.mailbox.peek();
    const VFMAILBOX again = bench.mailbox.peek();
    CHECK(again.get(VFMAILBOX::pf_status));
    CHECK(again.get(VFMAILBOX::pf_acknowledge));
    CHECK(again.get(VFMAILBOX::reset_done));

    bench.mailbox.take(VFMAILBOX::reset_done.mask);
    CHECK_FALSE(bench.mailbox.peek().get(VFMAILBOX::reset_done));
    CHECK(bench.mailbox.peek().get(VFMAILBOX::pf_status));
}

TEST_CASE("a stale message does not pass for the reply") {
    MailboxBench bench;
    bench.nic.pf_sends(longest_frame | MessageHead::failure.mask);
    const auto reply = bench.mailbox.request(std::array{longest_frame, 1518u}, "SET_LPE");
    CHECK(MessageHead{{reply[0]}}.get(MessageHead::success));
}

TEST_CASE("a message from before the request is not acknowledged as if it were the reply") {
    MailboxBench bench;
    bench.nic.pf_sends(longest_frame | MessageHead::success.mask);
    bench.nic.pf.silent = true;
    CHECK_THROWS_AS(bench.mailbox.request(std::array{longest_frame, 1518u}, "SET_LPE"), std::system_error);
    CHECK(bench.nic.acknowledges == 0);
}

TEST_CASE("a ping in between is acknowledged, and the reply still awaited") {
    MailboxBench bench;
    bench.nic.pf.silent = true;
    // The PF's answers, as they would show in word 0: a ping first, the reply at the next look.
    bench.nic.scripted_loads[VFMAILBOX::at()] = {VFMAILBOX::vf_owns.mask,   0,
                                                 VFMAILBOX::pf_status.mask,  // poll: a message
                                                 VFMAILBOX::vf_owns.mask,    // locked
                                                 VFMAILBOX::pf_status.mask, VFMAILBOX::vf_owns.mask};
    bench.nic.scripted_loads[driver::VFMBMEM::at(0)] = {
        std::to_underlying(driver::MessageType::pf_control) | MessageHead::clear_to_send.mask,
        longest_frame | MessageHead::success.mask | MessageHead::clear_to_send.mask};
    const auto reply = bench.mailbox.request(std::array{longest_frame, 1518u}, "SET_LPE");
    CHECK((reply[0] & 0xffff) == longest_frame);
}

TEST_CASE("a PF that answers something else for ever runs into the limit") {
    MailboxBench bench;
    bench.nic.pf.silent = true;
    for (int i = 0; i < 10'000; ++i) {
        bench.nic.scripted_loads[VFMAILBOX::at()].push_back(VFMAILBOX::pf_status.mask | VFMAILBOX::vf_owns.mask);
        bench.nic.scripted_loads[driver::VFMBMEM::at(0)].push_back(0x1234);
    }
    const auto before = bench.clock.now();
    CHECK_THROWS_AS(bench.mailbox.request(std::array{longest_frame, 1518u}, "SET_LPE"), std::system_error);
    CHECK(bench.clock.now() - before <= std::chrono::seconds(2));
}

TEST_CASE("no message is read when none waits") {
    MailboxBench bench;
    bench.nic.reg(driver::VFMBMEM::at(0)) = 0x100;
    CHECK_FALSE(bench.mailbox.poll("look").has_value());
}
