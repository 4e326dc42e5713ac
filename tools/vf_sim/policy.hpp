#pragma once

#include <bitset>
#include <cstdint>
#include <optional>

#include "driver/mailbox_messages.hpp"
#include "mem/test_frame.hpp"
#include "tools/vf_sim/part.hpp"

namespace vitrine::vf_sim {

using mem::EthernetAddress;
using VlanSet = std::bitset<4096>;

/// What the administrator says of a VF's link; `automatic` and `enabled` differ only while the PF itself is down.
enum class LinkState { automatic, enabled, disabled };

/// What the administrator of the physical function decided. The defaults are those of a Linux PF.
struct Policy {
    Part part = Part::i82599;
    std::optional<EthernetAddress> mac;  ///< none: RESET is refused and the VF makes an address up
    std::uint16_t port_vlan = 0;         ///< none: 0. Otherwise put into and taken out of every frame, unseen by the VF
    bool trusted = false;
    bool promiscuous = false;  ///< the PF itself is: without it no VF may be
    bool spoof_check = true;
    bool rss_query = false;  ///< the VF may read table and key (82599, X540)
    bool rss_udp = false;    ///< UDP ports take part in the hash (82599, X540)
    unsigned mtu_bytes = 1500;
    unsigned rate_mbps = 0;  ///< limit of each transmit queue; 0: none
    LinkState link_state = LinkState::automatic;
    unsigned queues = 1;  ///< what GET_QUEUES grants: 1, 2, 4 or 8
    driver::MailboxApi api_ceiling = driver::MailboxApi::v1_3;
    unsigned multicast_filter_type = 0;
    bool strict = false;              ///< count every broken rule of rules.hpp; wants trapped doorbells
    bool mdd = false;                 ///< malicious-driver detection, which the X550 has
    VlanSet vlans = VlanSet{}.set();  ///< those that the VF may join
};

}  // namespace vitrine::vf_sim
