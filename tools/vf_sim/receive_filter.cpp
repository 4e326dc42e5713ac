#include "tools/vf_sim/receive_filter.hpp"

#include <algorithm>

#include "tools/vf_sim/frame_view.hpp"

namespace vitrine::vf_sim {
namespace {

constexpr EthernetAddress broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/// The 12 bits of the address that index the multicast table, by the PF's filter type 0 to 3.
unsigned table_index(const EthernetAddress& address, unsigned type) {
    const unsigned low = address[4], high = address[5];
    switch (type) {
        case 0:
            return (low >> 4 | high << 4) & 0xfff;
        case 1:
            return (low >> 3 | high << 5) & 0xfff;
        case 2:
            return (low >> 2 | high << 6) & 0xfff;
        default:
            return (low | high << 8) & 0xfff;
    }
}

}  // namespace

bool ReceiveFilter::is_own(const EthernetAddress& address) const noexcept {
    return (has_address_ && address == address_) || std::ranges::find(further_, address) != further_.end();
}

bool ReceiveFilter::accepts_multicast(const EthernetAddress& address) const noexcept {
    if (mode_ >= driver::ReceiveMode::all_multicast) return true;
    return mode_ == driver::ReceiveMode::multicast_hashes &&
           multicast_hashes_[table_index(address, multicast_filter_type_)];
}

// LINUX: the PF clears broadcast acceptance too in mode `none`, and opens the VLAN filter in mode `promiscuous`.
ReceiveFilter::Verdict ReceiveFilter::check(const FrameView& frame) const noexcept {
    const EthernetAddress destination = frame.destination();
    const bool address_matches = destination == broadcast    ? mode_ != driver::ReceiveMode::none
                                 : (destination[0] & 1) != 0 ? accepts_multicast(destination)
                                                             : promiscuous() || is_own(destination);
    if (!address_matches) return Verdict::wrong_address;
    if (port_vlan_ != 0) {
        const bool ours = frame.tagged && frame.vlan_id() == port_vlan_;
        return ours || promiscuous() ? Verdict::pass : Verdict::wrong_vlan;
    }
    if (frame.tagged && !promiscuous() && !in_vlan(frame.vlan_id())) return Verdict::wrong_vlan;
    return Verdict::pass;
}

void ReceiveFilter::set_address(const EthernetAddress& address) {
    address_ = address;
    has_address_ = true;
}

void ReceiveFilter::set_multicast_hashes(std::span<const std::uint16_t> hashes) {
    multicast_hashes_.reset();
    for (const std::uint16_t hash : hashes) multicast_hashes_.set(hash & 0xfff);
}

void ReceiveFilter::reset() {
    further_.clear();
    vlans_.reset();
    multicast_hashes_.reset();
    mode_ = driver::ReceiveMode::multicast_hashes;
}

}  // namespace vitrine::vf_sim
