#pragma once

#include <bitset>
#include <cstddef>
#include <vector>

#include "tools/vf_sim/frame_view.hpp"
#include "tools/vf_sim/physical_function.hpp"

namespace vitrine::vf_sim {

/// The bridge inside the port (VEB; 82599 data sheet, 7.10.3.4). It learns nothing: what the PF programmed for each
/// function says who takes what. A frame never comes back to its sender.
///
/// A unicast frame whose address belongs to a function, in a VLAN of that function, stays inside; every other frame
/// goes to the wire, group addresses too, and to each function whose filter takes it. So a promiscuous function gets
/// its copy of what goes to the wire, and of what stays inside.
/// MISSING: a frame to the sender's own address: here it stays inside and reaches nobody.
class Switch {
public:
    /// 82599: 64 pools, one of which the PF keeps.
    static constexpr std::size_t most_functions = 63;

    struct Route {
        bool to_wire = true;
        std::bitset<most_functions> functions;
    };

    void add(const PhysicalFunction& function) { functions_.push_back(&function); }
    Route route(std::size_t sender, const FrameView& frame) const noexcept;

private:
    std::vector<const PhysicalFunction*> functions_;
};

}  // namespace vitrine::vf_sim
