#include "tools/vf_sim/switch.hpp"

namespace vitrine::vf_sim {

Switch::Route Switch::route(std::size_t sender, const FrameView& frame) const noexcept {
    Route route;
    const EthernetAddress destination = frame.destination();
    for (std::size_t i = 0; i < functions_.size(); ++i) {
        if (!functions_[i]->started()) continue;  // reset: no filter of it is programmed
        const ReceiveFilter& filter = functions_[i]->filter();
        if (i != sender) route.functions[i] = filter.check(frame) == ReceiveFilter::Verdict::pass;
        if (filter.is_own(destination) && (!frame.tagged || filter.in_vlan(frame.vlan_id()))) route.to_wire = false;
    }
    return route;
}

}  // namespace vitrine::vf_sim
