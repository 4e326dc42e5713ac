#include "apps/guest/find_region.hpp"

#include <algorithm>
#include <fcntl.h>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "apps/guest/pci_function.hpp"
#include "apps/guest/pmem_range.hpp"

namespace vitrine::guest {
namespace {

constexpr std::string_view bus = "pci";
constexpr std::string_view on_bus = "pci:";

bool is_of(const PageRegion& region, const mem::EthernetAddress& device) {
    return std::ranges::equal(region.info().mac, device);
}

constexpr std::uint16_t red_hat = 0x1af4, shared_memory = 0x1110, virtio_pmem = 0x105b;

/// The memory of an ivshmem device is its BAR 2; that of a virtio-pmem device lies somewhere beside the RAM. Not by
/// /dev/pmem, which is a disk: it would show copies in the guest's page cache.
PageRegion region_in(const std::string& address) {
    constexpr unsigned shared_memory_bar = 2;
    PciFunction function(address);
    if (function.device() == virtio_pmem) {
        const PhysicalRange range = pmem_range(function);
        return {mem::open("/dev/mem", O_RDONLY), range.start, range.bytes};
    }
    function.enable_memory();
    return PageRegion(function.open_bar(shared_memory_bar, O_RDONLY));
}

/// Several with the same address are as good as none: there is no telling which is the device's (docs/vrx.md, 2.2).
PageRegion region_on_bus(const mem::EthernetAddress& device) {
    auto functions = PciFunction::find(red_hat, shared_memory);
    std::ranges::copy(PciFunction::find(red_hat, virtio_pmem), std::back_inserter(functions));
    std::optional<PageRegion> found;
    for (const std::string& address : functions) {
        try {
            PageRegion region = region_in(address);
            if (!is_of(region, device)) continue;
            if (found) throw std::runtime_error("--pages pci: several regions belong to this device");
            found.emplace(std::move(region));
        } catch (const std::system_error& error) {
            if (functions.size() == 1) throw;  // else it may serve another purpose
        }
    }
    if (!found)
        throw std::runtime_error("--pages pci: " + std::to_string(functions.size()) +
                                 " devices with shared memory (1af4:1110, 1af4:105b), none with this device's pages");
    return std::move(*found);
}

}  // namespace

PageRegion find_region(const std::string& where, const mem::EthernetAddress& device, std::uint32_t wanted_modes) {
    PageRegion region = where == bus                ? region_on_bus(device)
                        : where.starts_with(on_bus) ? region_in(where.substr(on_bus.size()))
                                                    : PageRegion(mem::open(where, O_RDONLY));
    if (!is_of(region, device)) throw std::runtime_error(where + ": pages of another device");
    if ((region.info().modes & wanted_modes) != wanted_modes)
        throw std::runtime_error(where + ": not offered (any more)");
    return region;
}

}  // namespace vitrine::guest
