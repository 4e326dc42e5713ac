/// The requests that change guest memory. Rings stand still meanwhile, with nothing in flight: the poll thread never
/// meets a half-changed table, nor the NIC a page that is going away.

#include <utility>

#include "virtio/session.hpp"

namespace vitrine::virtio {

namespace wire = vhost_user;
using Counters = SessionCounters;

Session::Answer Session::set_mem_table(Message& message) {
    const auto table = message.read<wire::MemoryTable>();
    if (message.payload.size() != sizeof(table) + std::uint64_t{table.regions} * sizeof(wire::MemoryRegion))
        return std::unexpected(&Counters::bad_size);
    if (message.descriptors.size() != table.regions) return std::unexpected(&Counters::bad_descriptors);

    GuestMemory fresh;  // complete before the old one goes: a bad table changes nothing
    for (std::uint32_t index = 0; index < table.regions; ++index) {
        const auto region = message.read<wire::MemoryRegion>(sizeof(table) + index * sizeof(wire::MemoryRegion));
        if (!fresh.add(region, std::move(message.descriptors[index]))) return std::unexpected(&Counters::bad_region);
    }
    {
        const auto hold = hooks_.hold();
        const unsigned stopped = stop_rings();
        for (const GuestRegion& region : device_.memory().regions()) hooks_.region_removed(region);
        device_.memory() = std::move(fresh);
        count_lost_rings(stopped, start_rings());
    }
    ++device_.session_counters().remaps;
    for (const GuestRegion& region : device_.memory().regions()) announce(region);
    return {};
}

Session::Answer Session::get_max_mem_slots(Message&) {
    return reply_of(std::uint64_t{GuestMemory::most_regions});
}

Session::Answer Session::add_mem_reg(Message& message) {
    const auto wanted = message.read<wire::SingleRegion>().region;
    if (message.descriptors.size() != 1) return std::unexpected(&Counters::bad_descriptors);
    {
        const auto hold = hooks_.hold();
        if (!device_.memory().add(wanted, std::move(message.descriptors.front())))
            return std::unexpected(&Counters::bad_region);
        start_rings();  // those that waited for this memory
    }
    ++device_.session_counters().remaps;
    announce(device_.memory().regions().back());
    return {};
}

Session::Answer Session::rem_mem_reg(Message& message) {
    const GuestRegion* const region = device_.memory().find(message.read<wire::SingleRegion>().region);
    if (region == nullptr) return std::unexpected(&Counters::bad_region);
    const auto hold = hooks_.hold();
    const unsigned stopped = stop_rings();
    hooks_.region_removed(*region);
    device_.memory().remove(*region);
    count_lost_rings(stopped, start_rings());
    ++device_.session_counters().remaps;
    return {};
}

void Session::count_lost_rings(unsigned stopped, unsigned started) {
    if (stopped > started) device_.session_counters().rings_lost_memory += stopped - started;
}

void Session::announce(const GuestRegion& region) {
    if (region.front_end_can_shrink) ++device_.session_counters().shrinkable_regions;
    hooks_.region_added(region);
}

}  // namespace vitrine::virtio
