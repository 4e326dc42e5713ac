#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "driver/mailbox.hpp"
#include "driver/mailbox_messages.hpp"
#include "driver/registers.hpp"

namespace vitrine::tests {

struct FakeClock {
    std::chrono::nanoseconds time{1'000'000'000};
    std::chrono::nanoseconds now() const { return time; }
    void sleep_for(std::chrono::nanoseconds pause) { time += pause; }
};

/// What the PF does with requests; the tests change it.
struct FakePf {
    bool silent = false;
    std::optional<driver::MacAddress> mac = driver::MacAddress{0x00, 0x1b, 0x21, 1, 2, 3};
    driver::MailboxApi newest_api = driver::MailboxApi::v1_3;
    bool trusts = true;
    bool promiscuous_works = true;
    bool takes_mac_address = true;
    std::uint32_t longest_frame_bytes = 9728;
    std::uint32_t multicast_filter = 0;
    std::uint16_t refused_vlan = 0;
    bool link_enabled = true;
    std::uint32_t tx_queues = 2;
    std::uint32_t rx_queues = 4;

    bool clear_to_send = false;
    std::uint32_t api = 0;
    std::vector<driver::MailboxWords> requests;

    /// The reply to a request, or nothing.
    std::optional<driver::MailboxWords> handle(driver::MailboxWords words);
    std::size_t count(driver::MessageType type) const;
    const driver::MailboxWords& last(driver::MessageType type) const;
};

/// The registers of a VF, as unforgiving as silicon: what must not be done is noted in `violations`.
class FakeNic {
public:
    FakeNic();

    std::uint32_t load(std::uint32_t offset);
    void store(std::uint32_t offset, std::uint32_t value);

    /// The PF writes a message of its own.
    void pf_sends(std::uint32_t word);
    std::uint32_t& reg(std::uint32_t offset) { return registers_[offset]; }

    FakePf pf;
    std::vector<std::string> violations;
    std::vector<std::string> history;  // resets, enables, first messages: what order matters for
    unsigned loads_until_ready = 3;    // the NIC takes its time: enable bits and VFU show after as many loads
    bool stuck = false;                // enable bits never change
    bool pf_holds_mailbox = false;
    unsigned loads_until_reset_done = 2;
    bool gone = false;
    unsigned acknowledges = 0;                                           // ACKs that the PF got
    std::map<std::uint32_t, std::vector<std::uint32_t>> scripted_loads;  // answers to come, oldest first

private:
    struct Enable {
        bool wanted = false;
        unsigned loads_left = 0;
    };

    std::uint32_t load_mailbox();
    void store_mailbox(driver::VFMAILBOX value);
    void store_queue(std::uint32_t offset, std::uint32_t value);
    bool enabled(std::uint32_t control) { return (registers_[control] >> 25 & 1) != 0; }
    void reset();

    std::map<std::uint32_t, std::uint32_t> registers_;
    std::map<std::uint32_t, Enable> pending_enables_;
    unsigned reset_loads_left_ = 0;
};

}  // namespace vitrine::tests
