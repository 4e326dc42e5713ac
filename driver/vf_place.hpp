#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace vitrine::driver {

/// vfio-user:PATH, a simulated VF.
struct VfioUserSocket {
    std::string path;
};

/// 0000:03:10.1, through the kernel's VFIO.
struct PciFunction {
    std::string address;
};

/// enp3s0f0/1: the second VF of that network interface's card. What it stands for is looked up at each opening, since
/// PCI addresses and IOMMU groups may change when the PF's driver makes its VFs anew.
struct PfAndIndex {
    std::string pf;
    unsigned index;
};

/// What --vf names.
using VfPlace = std::variant<VfioUserSocket, PciFunction, PfAndIndex>;

/// Nothing when the text is none of the three.
std::optional<VfPlace> parse_vf_place(std::string_view text);

}  // namespace vitrine::driver
