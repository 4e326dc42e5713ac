#pragma once

#include <string>

#include "apps/guest/page_region.hpp"
#include "mem/test_frame.hpp"

namespace vitrine::guest {

/// Maps the pages that belong to the device of this address. `where` is a file, "pci" for the one device with shared
/// memory (ivshmem, virtio-pmem) on the bus that has them, or "pci:ADDRESS". Throws std::system_error or
/// std::runtime_error: none, more than one, pages of another device, `wanted_modes` (InfoPage) not offered (any more).
PageRegion find_region(const std::string& where, const mem::EthernetAddress& device, std::uint32_t wanted_modes);

}  // namespace vitrine::guest
