#include "apps/vitrine/needs.hpp"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <system_error>

#include <nlohmann/json.hpp>

#include "apps/vitrine/nic.hpp"
#include "driver/descriptors.hpp"
#include "mem/region_layout.hpp"

namespace vitrine::apps {
namespace {

constexpr std::size_t small_page_bytes = 4096;
/// Of a burst that waits for guest buffers, for every pair, and some to spare.
constexpr std::size_t pages_beside_ring = 256;

std::size_t packet_pages(const Options& options) {
    const std::size_t lent = options.rx_mode == "pages" ? NicMemory::most_lent_pages : 0;
    const std::size_t needed = options.pairs * (NicMemory::rx_slots + pages_beside_ring + lent);
    if (options.pages != 0 && options.pages < needed)
        throw std::system_error(
            EINVAL, std::generic_category(),
            "--pages " + std::to_string(options.pages) + ": the rings need " + std::to_string(needed));
    return options.pages != 0 ? options.pages : needed;
}

}  // namespace

std::size_t NicMemoryBytes::in_pages_of(std::size_t page_bytes) const {
    const auto pages = [page_bytes](std::size_t bytes) { return (bytes + page_bytes - 1) / page_bytes; };
    return (pages(packets) + pages(bounce) + pages(rings)) * page_bytes;
}

NicMemoryBytes nic_memory_bytes(const Options& options) {
    const std::size_t page_bytes = page_bytes_for(options.link_mtu());
    const std::size_t pages = packet_pages(options);
    constexpr std::size_t largest_granule = 2 << 20;
    return {.packets = options.rx_mode == "pages" ? mem::region_layout(pages, page_bytes, largest_granule).region_bytes
                                                  : pages * page_bytes,
            .packet_pages = pages,
            .bounce = options.pairs * NicMemory::tx_slots * page_bytes,
            .rings = options.pairs * (NicMemory::rx_slots * sizeof(driver::RxDescriptor) +
                                      NicMemory::tx_slots * sizeof(driver::TxDescriptor))};
}

Needs needs_of(const Options& options, std::size_t huge_page_bytes, std::uint64_t guest_bytes) {
    const NicMemoryBytes memory = nic_memory_bytes(options);
    const bool pinned = !options.is_vfio_user();
    const bool wants_huge = options.backing != mem::Backing::small_only && huge_page_bytes != 0;
    Needs needs;
    if (wants_huge) {
        needs.huge_page_bytes = huge_page_bytes;
        needs.huge_pages = memory.in_pages_of(huge_page_bytes) / huge_page_bytes;
        if (pinned) needs.locked_bytes = memory.in_pages_of(huge_page_bytes);
    }
    if (options.backing != mem::Backing::huge_only)
        needs.locked_bytes = std::max<std::uint64_t>(needs.locked_bytes, memory.in_pages_of(small_page_bytes));
    if (pinned && options.guest_dma) needs.locked_bytes += guest_bytes;
    return needs;
}

std::string text_of(const Needs& needs) {
    std::string text;
    if (needs.huge_pages != 0)
        text = fmt::format("huge pages     {} of {} KiB\n", needs.huge_pages, needs.huge_page_bytes / 1024);
    return text + fmt::format("locked memory  {} KiB (LimitMEMLOCK={}K, ulimit -l {})", needs.locked_bytes / 1024,
                              needs.locked_bytes / 1024, needs.locked_bytes / 1024);
}

std::string json_of(const Needs& needs) {
    nlohmann::json json{{"huge_pages", nlohmann::json::object()}, {"locked_bytes", needs.locked_bytes}};
    if (needs.huge_pages != 0) json["huge_pages"][std::to_string(needs.huge_page_bytes / 1024)] = needs.huge_pages;
    return json.dump();
}

}  // namespace vitrine::apps
