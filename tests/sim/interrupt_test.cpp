// Causes, masks and messages, with time given in.
#include <doctest/doctest.h>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::sim_test {
namespace {

using namespace driver;
using namespace std::chrono_literals;

struct InterruptBench {
    std::array<mem::EventFd, vectors> events;
    vf_sim::Interrupts interrupts;
    vf_sim::Time now{std::chrono::seconds(5)};

    InterruptBench() {
        std::vector<mem::FileDescriptor> copies;
        for (const mem::EventFd& event : events) copies.push_back(mem::duplicate(event.get()));
        interrupts.assign(0, std::move(copies));
        interrupts.store(VTIVAR::at(0), 0x8181'8080);  // pair 0 on vector 0, pair 1 on vector 1
        interrupts.store(VTIVAR_MISC::at(), 0x82);
    }
    bool fired(unsigned vector) {
        interrupts.deliver(now);
        return events[vector].drain();
    }
    std::uint32_t get(std::uint32_t offset) { return interrupts.load(offset); }
};

}  // namespace

TEST_CASE("a cause sends one message when its vector is enabled, and waits until then") {
    InterruptBench bench;
    bench.interrupts.raise_rx(0);
    CHECK_FALSE(bench.fired(0));
    bench.interrupts.store(VTEIMS::at(), 1);
    CHECK(bench.fired(0));
    CHECK_FALSE(bench.fired(0));
    bench.interrupts.raise_tx(0);  // the cause is still set: no edge, no message
    CHECK_FALSE(bench.fired(0));
    CHECK(bench.get(VTEICR::at()) == 1);
    CHECK(bench.get(VTEICR::at()) == 0);  // read to clear
    bench.interrupts.raise_tx(0);
    CHECK(bench.fired(0));
}

TEST_CASE("queues reach the vectors that VTIVAR names, the mailbox any of three; invalid entries none") {
    InterruptBench bench;
    bench.interrupts.store(VTEIMS::at(), 7);
    bench.interrupts.raise_rx(1);
    bench.interrupts.raise_mailbox();
    bench.interrupts.raise_rx(2);
    CHECK_FALSE(bench.fired(0));
    CHECK(bench.fired(1));
    CHECK(bench.fired(2));
    bench.interrupts.store(VTIVAR_MISC::at(), 0x83);  // there is no fourth vector
    bench.get(VTEICR::at());
    bench.interrupts.raise_mailbox();
    CHECK(bench.get(VTEICR::at()) == 0);
}

TEST_CASE("auto-clear drops the cause with the message, auto-mask the enable bit; VTEIMS arms again") {
    InterruptBench bench;
    bench.interrupts.store(VTEIAC::at(), 1);
    bench.interrupts.store(VTEIAM::at(), 1);
    bench.interrupts.store(VTEIMS::at(), 3);
    bench.interrupts.raise_rx(0);
    CHECK(bench.fired(0));
    CHECK(bench.get(VTEIMS::at()) == 2);
    CHECK(bench.get(VTEICR::at()) == 0);
    bench.interrupts.raise_rx(0);
    CHECK_FALSE(bench.fired(0));
    bench.interrupts.store(VTEIMS::at(), 1);
    CHECK(bench.fired(0));
}

TEST_CASE("VTEICS raises causes by software, VTEICR clears by writing ones, VTEIMC masks") {
    InterruptBench bench;
    bench.interrupts.store(VTEIMS::at(), 7);
    bench.interrupts.store(VTEICS::at(), 0xffff'ffff);
    CHECK(bench.get(VTEICS::at()) == 0);
    for (unsigned vector = 0; vector < vectors; ++vector) CHECK(bench.fired(vector));
    bench.interrupts.store(VTEICR::at(), 5);
    CHECK(bench.get(VTEICR::at()) == 2);
    bench.interrupts.store(VTEIMC::at(), 2);
    CHECK(bench.get(VTEIMS::at()) == 5);
}

TEST_CASE("VTEITR keeps messages apart in steps of 2.048 microseconds") {
    InterruptBench bench;
    bench.interrupts.store(VTEIMS::at(), 1);
    bench.interrupts.store(VTEIAC::at(), 1);
    bench.interrupts.store(VTEITR::at(0), 0xffff'0000 | 25u << 3);
    CHECK(bench.get(VTEITR::at(0)) == 25u << 3);
    bench.interrupts.raise_rx(0);
    CHECK(bench.fired(0));
    bench.interrupts.raise_rx(0);
    CHECK_FALSE(bench.fired(0));
    REQUIRE(bench.interrupts.due());
    CHECK(*bench.interrupts.due() == bench.now + 51200ns);
    bench.now += 51199ns;
    CHECK_FALSE(bench.fired(0));
    bench.now += 1ns;
    CHECK(bench.fired(0));
    CHECK_FALSE(bench.interrupts.due());
}

TEST_CASE("a masked vector keeps its message pending, as does one without an eventfd") {
    InterruptBench bench;
    bench.interrupts.store(VTEIMS::at(), 1);
    bench.interrupts.set_masked(0, true);
    bench.interrupts.raise_rx(0);
    CHECK_FALSE(bench.fired(0));
    CHECK(bench.interrupts.pending() == 1);
    bench.interrupts.remove(0, 1);
    bench.interrupts.set_masked(0, false);
    CHECK_FALSE(bench.fired(0));
    std::vector<mem::FileDescriptor> again;
    again.push_back(mem::duplicate(bench.events[0].get()));
    bench.interrupts.assign(0, std::move(again));
    CHECK(bench.fired(0));
    CHECK(bench.interrupts.pending() == 0);
}

TEST_CASE("82599 data sheet, 8.3: VFPBACL clears pending bits, so that the message is not sent; its cause stays") {
    InterruptBench bench;
    bench.interrupts.store(VTEIMS::at(), 3);
    bench.interrupts.set_masked(0, true);
    bench.interrupts.set_masked(1, true);
    bench.interrupts.raise_rx(0);
    bench.interrupts.raise_rx(1);
    CHECK(bench.interrupts.pending() == 3);
    bench.interrupts.store(VFPBACL::at(), 1);
    CHECK(bench.interrupts.pending() == 2);
    bench.interrupts.set_masked(0, false);
    bench.interrupts.set_masked(1, false);
    CHECK_FALSE(bench.fired(0));
    CHECK(bench.fired(1));
    CHECK(bench.get(VTEICR::at()) == 3);
}

TEST_CASE("82599 data sheet, 7.3: vector 2 has no throttle, and software causes auto-mask like any other") {
    InterruptBench bench;
    bench.interrupts.store(VTEITR::at(0), 100u << 3);
    bench.interrupts.store(VTEITR::at(1), 100u << 3);
    bench.interrupts.store(VTEIAC::at(), 7);
    bench.interrupts.store(VTEIAM::at(), 7);
    for (int round = 0; round < 3; ++round) {
        bench.interrupts.store(VTEIMS::at(), 7);
        bench.interrupts.store(VTEICS::at(), 7);
        CHECK(bench.fired(2));
        CHECK(bench.fired(0) == (round == 0));
    }
    CHECK(bench.get(VTEIMS::at()) == 3);  // 0 and 1 still wait for their interval
}

TEST_CASE("82599 data sheet, 4.2: a reset of the VF clears causes, masks, routes and throttles") {
    InterruptBench bench;
    for (const std::uint32_t offset : {VTEIMS::at(), VTEIAC::at(), VTEIAM::at(), VTEITR::at(0), VTEICS::at()})
        bench.interrupts.store(offset, 0xff);
    bench.interrupts.reset_registers();
    for (const std::uint32_t offset :
         {VTEICR::at(), VTEIMS::at(), VTEIAC::at(), VTEIAM::at(), VTEITR::at(0), VTIVAR::at(0), VTIVAR_MISC::at()})
        CHECK(bench.get(offset) == 0);
    bench.interrupts.store(VTEIMS::at(), 7);
    bench.interrupts.raise_rx(0);
    CHECK_FALSE(bench.fired(0));
}

}  // namespace vitrine::sim_test
