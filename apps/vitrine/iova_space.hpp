#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "mem/address.hpp"

namespace vitrine::apps {

/// Gives every DMA mapping an address of its own, first fit.
///
/// Starts at 4 GiB, so that IOVA 0 never exists (82599: a buffer at 0 is not supported) and the interrupt window at
/// 0xfee00000 is not met; ends at 39 bits, which every IOMMU has. Control thread only.
class IovaSpace {
public:
    static constexpr std::uint64_t lowest = std::uint64_t{1} << 32;
    static constexpr std::uint64_t end = std::uint64_t{1} << 39;
    static constexpr std::uint64_t alignment = std::uint64_t{2} << 20;  ///< a huge page, so that the IOMMU may use one

    /// Nothing when no gap is large enough.
    std::optional<mem::Iova> take(std::uint64_t bytes) {
        if (bytes == 0 || bytes > end) return std::nullopt;
        const std::uint64_t size = (bytes + alignment - 1) / alignment * alignment;
        std::uint64_t candidate = lowest;
        for (const auto& [begin, used] : taken_) {
            if (begin - candidate >= size) break;
            candidate = begin + used;
        }
        if (size > end - candidate) return std::nullopt;
        taken_.emplace(candidate, size);
        return mem::Iova{candidate};
    }
    void give(mem::Iova iova) { taken_.erase(iova.raw); }

private:
    std::map<std::uint64_t, std::uint64_t> taken_;  // begin -> size
};

}  // namespace vitrine::apps
