#pragma once

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "driver/clock.hpp"
#include "driver/failure.hpp"
#include "driver/filters.hpp"
#include "driver/link.hpp"
#include "driver/mailbox.hpp"
#include "driver/mailbox_messages.hpp"
#include "driver/queues.hpp"
#include "driver/registers.hpp"

namespace vitrine::driver {

/// What a reset has taught us.
struct Identity {
    MacAddress mac{};
    bool mac_from_pf = false;
    MailboxApi api = MailboxApi::v1_0;
    bool api_misreported = false;  ///< the PF agreed to a version that was not asked for; such an answer is a refusal
    unsigned rx_queues = 1;
    unsigned tx_queues = 1;
    bool port_vlan_or_classes = false;  ///< tags are the PF's business: VLAN filters are refused
    MulticastFilter multicast_filter = MulticastFilter::bits_47_36;
    bool link_enabled = true;  ///< false: the PF's administrator switched this VF's link off
};

enum class Watch { steady, link_changed, reset_needed, gone };

/// The conversation with the PF: reset, identity, filters, link. Control thread only.
///
/// `Space` is any RegisterSpace with the VF's BAR0. Every wait has a limit. Everything throws std::system_error:
/// ETIMEDOUT when the PF stays silent, ECONNRESET when it asks for a reset, and what the device throws when it is gone.
template <RegisterSpace Space, Clock C>
class Vf {
public:
    Vf(Space& bar, C& clock) : bar_(bar), clock_(clock), mailbox_(bar, clock) {}

    /// Brings the VF from any state to a known one: queues stopped, interrupts masked, every queue register written,
    /// address known, mailbox API agreed. `fallback_mac` is used when the PF has none for us.
    ///
    /// Order (82599 data sheet, 4.2.2.2 and 4.5.1): stop, VFCTRL.RST, wait for RSTI and RSTD to clear, RESET.
    /// MISSING: no bound is given for RSTI. We pause 50 ms and then poll for 50 ms, as other drivers do.
    /// LINUX: neither reset clears most queue registers (specification update, clarification 5), so all are written.
    const Identity& reset(const MacAddress& fallback_mac) {
        identity_ = Identity{};
        quiesce(bar_);
        write(bar_, VFCTRL{}.with(VFCTRL::reset, 1));
        read<VFSTATUS>(bar_);  // flushes the posted write
        clock_.sleep_for(std::chrono::milliseconds(50));
        const bool ready = wait_until(clock_, std::chrono::milliseconds(50), std::chrono::microseconds(5), [&] {
            const auto mailbox = read<VFMAILBOX>(bar_);
            return !mailbox.get(VFMAILBOX::in_reset) && !mailbox.get(VFMAILBOX::reset_done);
        });
        if (!ready) fail(ETIMEDOUT, "VF reset: the PF stays in reset (is its driver loaded and the port up?)");
        mailbox_.take(VFMAILBOX::read_to_clear);  // events of the time before
        write_queue_defaults(bar_);

        const bool assigned = ask_for_reset();
        negotiate_api();
        if (!assigned) {
            identity_.mac = fallback_mac;
            if (!set_mac_address(fallback_mac)) fail(EPERM, "VF reset: the PF refuses our MAC address (SET_MAC_ADDR)");
        }
        ask_for_queues();
        ask_for_link_state();
        link_ = read_link(bar_, clock_, Link{});
        return identity_;
    }

    const Identity& identity() const { return identity_; }

    /// False when the PF refuses, e.g. because its administrator set another one and does not trust us.
    bool set_mac_address(const MacAddress& mac) {
        const auto [low, high] = words_of(mac);
        const bool accepted =
            ask(std::array{head_of(MessageType::set_mac_address).raw, low, high}, "SET_MAC_ADDR").has_value();
        if (accepted) identity_.mac = mac;
        return accepted;
    }

    /// Longest frame in bytes with CRC (MTU + 18). Needed at each start: a PF in jumbo mode keeps the receive path of
    /// an 82599 VF shut until then. False when the PF refuses, as on an 82599 whose PF is not in jumbo mode.
    bool set_longest_frame(std::uint32_t bytes) {
        return ask(std::array{head_of(MessageType::set_longest_frame).raw, bytes}, "SET_LPE").has_value();
    }

    /// Asks for what the operator wants and settles for what the PF grants. All lists are lost with a reset.
    FilterGrant set_filters(const FilterRequest& request) {
        FilterGrant grant;
        for (const std::uint16_t vlan : request.vlans)
            if (!ask(std::array{head_of(MessageType::set_vlan, 1).raw, std::uint32_t{vlan}}, "SET_VLAN"))
                grant.vlans_refused.push_back(vlan);

        grant.mode = ask_for_receive_mode(request);
        if (grant.mode < ReceiveMode::all_multicast) set_groups(request.groups, grant);
        return grant;
    }

    /// Other groups, in a VF that was granted no more than hashes: one message.
    void set_groups(const std::vector<MacAddress>& groups, FilterGrant& grant) {
        grant.hashes = multicast_hashes(identity_.mac, groups, identity_.multicast_filter, grant.groups_left_out);
        const bool taken = set_multicast_hashes(grant.hashes);
        grant.mode = taken ? ReceiveMode::multicast_hashes : ReceiveMode::none;
        if (!taken) grant.hashes.clear();
    }

    /// As last seen by reset() or watch().
    Link link() const { return identity_.link_enabled ? link_ : Link{}; }

    /// To be called about once a second, and on a mailbox interrupt. Reads at most one message of the PF.
    Watch watch() {
        // One read of all ones may be a master abort on its way; two are a device that left the bus.
        if (read<VFSTATUS>(bar_).raw == all_ones && read<VFSTATUS>(bar_).raw == all_ones) return Watch::gone;
        const VFMAILBOX mailbox = mailbox_.peek();
        if (mailbox.get(VFMAILBOX::in_reset) || mailbox.get(VFMAILBOX::reset_done)) return Watch::reset_needed;
        if (const auto message = mailbox_.poll("read a message of the PF")) {
            // LINUX: any message without "clear to send" means that the PF has forgotten us.
            if (!MessageHead{{message->front()}}.get(MessageHead::clear_to_send)) return Watch::reset_needed;
        }
        const Link now = read_link(bar_, clock_, link_);
        return std::exchange(link_, now) == now ? Watch::steady : Watch::link_changed;
    }

private:
    static std::pair<std::uint32_t, std::uint32_t> words_of(const MacAddress& mac) {
        return {mac[0] | (mac[1] << 8) | (mac[2] << 16) | (std::uint32_t{mac[3]} << 24),
                std::uint32_t{mac[4]} | (std::uint32_t{mac[5]} << 8)};
    }
    static MacAddress address_in(std::uint32_t low, std::uint32_t high) {
        const auto byte = [](std::uint32_t word, unsigned index) {
            return static_cast<std::uint8_t>(word >> (8 * index));
        };
        return {byte(low, 0), byte(low, 1), byte(low, 2), byte(low, 3), byte(high, 0), byte(high, 1)};
    }

    /// The reply, or nothing when the PF refuses.
    std::optional<MailboxWords> ask(std::span<const std::uint32_t> words, const std::string& name) {
        const MailboxWords reply = mailbox_.request(words, "VF mailbox " + name);
        const MessageHead head{{reply[0]}};
        if (head.get(MessageHead::success)) return reply;
        if (!head.get(MessageHead::clear_to_send)) fail(ECONNRESET, "VF mailbox " + name + ": the PF asks for a reset");
        return std::nullopt;
    }

    /// Whether the PF has an address for us. RESET alone is answered without "clear to send".
    bool ask_for_reset() {
        const MailboxWords reply = mailbox_.request(std::array{head_of(MessageType::reset).raw}, "VF mailbox RESET");
        identity_.multicast_filter = static_cast<MulticastFilter>(reply[3] & 3);
        const MacAddress assigned = address_in(reply[1], reply[2]);
        if (!MessageHead{{reply[0]}}.get(MessageHead::success) || !is_station_address(assigned)) return false;
        identity_.mac = assigned;
        identity_.mac_from_pf = true;
        return true;
    }

    void negotiate_api() {
        for (const MailboxApi api : {MailboxApi::v1_3, MailboxApi::v1_2, MailboxApi::v1_1, MailboxApi::v1_0}) {
            identity_.api = api;  // 1.0 is in force after RESET, even if a PF does not know how to negotiate
            const auto reply =
                ask(std::array{head_of(MessageType::negotiate_api).raw, std::to_underlying(api), 0u}, "API_NEGOTIATE");
            if (!reply) continue;
            if ((*reply)[1] == std::to_underlying(api)) return;
            identity_.api_misreported = true;
        }
    }

    void ask_for_queues() {
        if (identity_.api < MailboxApi::v1_1) return;
        const auto reply = ask(std::array{head_of(MessageType::get_queues).raw, 0u, 0u, 0u, 0u}, "GET_QUEUES");
        if (!reply) return;
        const auto plausible = [](std::uint32_t queues) {
            return queues < 1 ? 1 : queues > queue_slots ? queue_slots : queues;
        };
        identity_.tx_queues = plausible((*reply)[1]);
        identity_.rx_queues = plausible((*reply)[2]);
        identity_.port_vlan_or_classes = (*reply)[3] != 0;
    }

    void ask_for_link_state() {
        if (identity_.api < MailboxApi::v1_2) return;
        if (const auto reply = ask(std::array{head_of(MessageType::get_link_state).raw, 0u}, "GET_LINK_STATE"))
            identity_.link_enabled = (*reply)[1] != 0;
    }

    /// The widest mode that is wanted and granted. A PF may refuse a mode, or answer with a narrower one.
    ReceiveMode ask_for_receive_mode(const FilterRequest& request) {
        if (identity_.api < MailboxApi::v1_2) return ReceiveMode::multicast_hashes;
        for (const ReceiveMode mode :
             {ReceiveMode::promiscuous, ReceiveMode::all_multicast, ReceiveMode::multicast_hashes}) {
            if (mode == ReceiveMode::promiscuous && (!request.promiscuous || identity_.api < MailboxApi::v1_3))
                continue;
            if (mode == ReceiveMode::all_multicast && !request.all_multicast && !request.promiscuous) continue;
            const auto reply = ask(std::array{head_of(MessageType::update_receive_mode).raw, std::to_underlying(mode)},
                                   "UPDATE_XCAST_MODE");
            if (!reply) continue;
            const std::uint32_t granted = (*reply)[1];
            return granted < std::to_underlying(mode) ? static_cast<ReceiveMode>(granted) : mode;
        }
        return ReceiveMode::none;
    }

    bool set_multicast_hashes(const std::vector<std::uint16_t>& hashes) {
        MailboxWords words{};
        words[0] = head_of(MessageType::set_multicast, static_cast<std::uint32_t>(hashes.size())).raw;
        for (std::size_t index = 0; index < hashes.size(); ++index)
            words[1 + index / 2] |= std::uint32_t{hashes[index]} << (index % 2 * 16);
        return ask(words, "SET_MULTICAST").has_value();
    }

    Space& bar_;
    C& clock_;
    Mailbox<Space, C> mailbox_;
    Identity identity_;
    Link link_;
};

}  // namespace vitrine::driver
