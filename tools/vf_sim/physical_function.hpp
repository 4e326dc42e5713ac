#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "driver/mailbox_messages.hpp"
#include "tools/vf_sim/mailbox.hpp"
#include "tools/vf_sim/policy.hpp"
#include "tools/vf_sim/receive_filter.hpp"
#include "tools/vf_sim/rss.hpp"

namespace vitrine::vf_sim {

/// What all VFs of a port share: the longest frame, CRC included, which any of them may raise.
struct Port {
    std::uint32_t longest_frame_bytes = 0;
};

/// The PF driver's side of the mailbox, for one VF: answers as the Linux ixgbe PF does (API 1.0 to 1.4, IPsec off), and
/// keeps what the VF obtained.
class PhysicalFunction {
public:
    PhysicalFunction(const Policy& policy, std::shared_ptr<Port> port);

    /// Answers a message in place. False: not a request, no answer.
    bool answer(MailboxWords& message);
    /// The VF was reset (VFCTRL.RST or FLR): only a RESET message makes it clear to send again.
    void forget_vf();
    /// The PF itself was: what the VF obtained is gone, its address too if the administrator gave none.
    void reset();

    // The administrator. Who changes trust or link state revokes clear_to_send too, so that the VF resets.
    Policy& policy() { return policy_; }
    void revoke_clear_to_send() { clear_to_send_ = false; }
    void set_mac(std::optional<EthernetAddress> mac);
    void set_port_vlan(std::uint16_t vlan);
    void set_spoof_check(bool on) { policy_.spoof_check = spoof_check_ = on; }

    bool clear_to_send() const { return clear_to_send_; }
    /// The PF's VFTE and VFRE: they outlive a lost clear_to_send, until the VF resets.
    bool transmit_enabled() const { return started_ && policy_.link_state != LinkState::disabled; }
    bool receive_enabled() const { return transmit_enabled() && receive_allowed_; }
    std::uint32_t longest_frame_bytes() const { return port_->longest_frame_bytes; }  ///< of the port, CRC included
    const ReceiveFilter& filter() const { return filter_; }
    EthernetAddress address() const { return address_; }  ///< of the VF; zero before it has one
    driver::MailboxApi api() const { return api_; }
    bool started() const { return started_; }  ///< RESET was answered
    bool longest_frame_told() const { return longest_frame_told_; }
    bool spoof_check() const { return spoof_check_; }
    const Rss& rss() const { return rss_; }  ///< the port's, which the 82599 and the X540 use for VFs
    const Policy& policy() const { return policy_; }

private:
    bool reset_vf(MailboxWords& message);
    bool handle(MailboxWords& message);  ///< false: FAILURE
    bool set_address(const MailboxWords& message);
    bool set_multicast(const MailboxWords& message);
    bool set_vlan(const MailboxWords& message);
    bool set_longest_frame(std::uint32_t bytes);
    bool set_further_address(const MailboxWords& message);
    bool negotiate(std::uint32_t version);
    bool get_queues(MailboxWords& message) const;
    bool get_rss(MailboxWords& message) const;
    bool update_mode(MailboxWords& message);
    bool jumbo() const { return policy_.mtu_bytes > 1500; }

    Policy policy_;
    ReceiveFilter filter_;
    Rss rss_;
    EthernetAddress address_{};
    driver::MailboxApi api_ = driver::MailboxApi::v1_0;
    bool clear_to_send_ = false;
    bool started_ = false;
    bool receive_allowed_ = false;
    bool longest_frame_told_ = false;
    bool spoof_check_;
    std::shared_ptr<Port> port_;
};

}  // namespace vitrine::vf_sim
