#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "driver/vfio_info.hpp"
#include "driver/vfio_mapping.hpp"
#include "mem/address.hpp"

namespace vitrine::apps {

/// Gives every DMA mapping an address of its own, first fit, within the ranges that the IOMMU takes.
///
/// From 4 GiB upwards as long as there is room, so that an address that lost its upper half hits nothing; below only
/// then, and never the first huge page: IOVA 0 must not exist (82599: a buffer at 0 is not supported). Control thread
/// only.
class IovaSpace {
public:
    static constexpr std::uint64_t lowest = std::uint64_t{1} << 32;
    static constexpr std::uint64_t alignment = std::uint64_t{2} << 20;  ///< a huge page, so that the IOMMU may use one

    explicit IovaSpace(const std::vector<driver::IovaRange>& ranges) {
        constexpr std::uint64_t end = std::uint64_t{1} << 63;  // beyond what any IOMMU has
        add_ranges(ranges, lowest, end);
        add_ranges(ranges, alignment, lowest);
    }

    /// Nothing when no gap is large enough.
    std::optional<mem::Iova> take(std::uint64_t bytes) {
        if (bytes == 0 || bytes > ~std::uint64_t{0} - alignment) return std::nullopt;
        const std::uint64_t size = (bytes + alignment - 1) / alignment * alignment;
        for (const auto& [begin, end] : ranges_) {
            std::uint64_t candidate = begin;
            for (auto next = taken_.lower_bound(begin); next != taken_.end() && next->first < end; ++next) {
                if (next->first - candidate >= size) break;
                candidate = next->first + next->second;
            }
            if (size > end - candidate) continue;
            taken_.emplace(candidate, size);
            return mem::Iova{candidate};
        }
        return std::nullopt;
    }
    void give(mem::Iova iova) { taken_.erase(iova.raw); }

    /// Whether everything that was taken is good for another IOMMU too: a VF that comes back may be behind one.
    bool fits(const std::vector<driver::IovaRange>& ranges) const {
        return std::ranges::all_of(
            taken_, [&](const auto& piece) { return driver::is_inside(ranges, mem::Iova{piece.first}, piece.second); });
    }

private:
    /// The part of each between `least` and `end`, cut to whole huge pages.
    void add_ranges(const std::vector<driver::IovaRange>& ranges, std::uint64_t least, std::uint64_t end) {
        for (const driver::IovaRange& range : ranges) {
            if (range.first >= end || range.last < least) continue;
            const std::uint64_t begin = std::max(range.first, least) + alignment - 1;
            const std::uint64_t behind = std::min(range.last, end - 1) + 1;
            if (begin / alignment < behind / alignment)
                ranges_.emplace_back(begin / alignment * alignment, behind / alignment * alignment);
        }
    }

    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_;  // begin, end; in order of preference
    std::map<std::uint64_t, std::uint64_t> taken_;                 // begin -> size
};

}  // namespace vitrine::apps
