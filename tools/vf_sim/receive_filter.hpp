#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/mailbox_messages.hpp"
#include "tools/vf_sim/policy.hpp"

namespace vitrine::vf_sim {

struct FrameView;

/// What the PF programmed for this VF: which frames are the VF's (82599 data sheet, 7.1.1 and 7.10.3.3).
class ReceiveFilter {
public:
    enum class Verdict { pass, wrong_address, wrong_vlan };

    explicit ReceiveFilter(unsigned multicast_filter_type) : multicast_filter_type_(multicast_filter_type) {}

    Verdict check(const FrameView& frame) const noexcept;
    bool is_own(const EthernetAddress& address) const noexcept;
    bool in_vlan(std::uint16_t vlan) const noexcept { return vlans_[vlan]; }
    std::uint16_t port_vlan() const noexcept { return port_vlan_; }
    bool promiscuous() const noexcept { return mode_ == driver::ReceiveMode::promiscuous; }

    /// Replaces the main address; further ones stay.
    void set_address(const EthernetAddress& address);
    void clear_address() { has_address_ = false; }
    void add_address(const EthernetAddress& address) { further_.push_back(address); }
    void clear_further() { further_.clear(); }
    std::size_t further() const { return further_.size(); }
    void set_vlan(std::uint16_t vlan, bool member) { vlans_[vlan] = member; }
    void set_port_vlan(std::uint16_t vlan) { port_vlan_ = vlan; }  ///< 0: none
    void set_multicast_hashes(std::span<const std::uint16_t> hashes);
    void set_mode(driver::ReceiveMode mode) { mode_ = mode; }
    driver::ReceiveMode mode() const { return mode_; }
    /// RESET: all but the main address and the port VLAN is forgotten.
    void reset();

private:
    bool accepts_multicast(const EthernetAddress& address) const noexcept;

    unsigned multicast_filter_type_;
    bool has_address_ = false;
    EthernetAddress address_{};
    std::vector<EthernetAddress> further_;
    VlanSet vlans_;
    std::uint16_t port_vlan_ = 0;
    std::bitset<4096> multicast_hashes_;
    driver::ReceiveMode mode_ = driver::ReceiveMode::multicast_hashes;
};

}  // namespace vitrine::vf_sim
