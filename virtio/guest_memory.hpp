#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/guarded_mapping.hpp"
#include "virtio/vhost_user.hpp"

namespace vitrine::virtio {

/// One piece of guest RAM, shared by the front-end as (part of) a file.
struct GuestRegion {
    mem::GuestPhys guest;
    mem::FrontendVirtual user;
    std::uint64_t size_bytes;
    mem::FileDescriptor file;
    std::uint64_t file_offset;
    mem::GuardedMapping mapping;  ///< starts at or before the region: files on huge pages map in whole pages
    std::byte* host;              ///< the region's first byte
    mem::Iova iova;               ///< where the NIC sees that byte; raw 0: not mapped for DMA
    bool front_end_can_shrink;    ///< no F_SEAL_SHRINK: the peer can take it away under us
};

/// Why a region was refused.
enum class RegionFault { empty, overflow, overlap, short_file, too_many, unknown };

/// Guest RAM: the only place where a guest address becomes a pointer.
///
/// Changed by the control thread while the poll thread stands still; looked up by the poll thread.
class GuestMemory {
public:
    /// What GET_MAX_MEM_SLOTS promises; as many as the rust-vmm crates allow.
    static constexpr std::size_t most_regions = 509;

    /// A piece of guest memory that lies in one region.
    struct Range {
        std::byte* host = nullptr;
        std::uint64_t length_bytes = 0;  ///< 0: the address is in no region
        mem::Iova iova{};                ///< raw 0: not mapped for DMA
    };

    /// The part of [address, address + length_bytes) that lies in the same region as `address`.
    Range translate(mem::GuestPhys address, std::uint64_t length_bytes) const noexcept {
        for (const GuestRegion& region : regions_) {
            const std::uint64_t offset = address - region.guest;  // wraps to a large number below the region
            if (offset >= region.size_bytes) continue;
            const std::uint64_t rest = region.size_bytes - offset;
            return {region.host + offset, length_bytes < rest ? length_bytes : rest,
                    region.iova.raw == 0 ? mem::Iova{} : region.iova + offset};
        }
        return {};
    }

    /// The whole of [address, address + length_bytes), or nullptr when it is not inside one region.
    std::byte* translate(mem::FrontendVirtual address, std::uint64_t length_bytes) const noexcept;

    /// Maps a region. Throws std::system_error when the file cannot be mapped.
    std::expected<void, RegionFault> add(const vhost_user::MemoryRegion& wanted, mem::FileDescriptor file);
    /// The region that has exactly this guest address, user address and size; nullptr when there is none.
    const GuestRegion* find(const vhost_user::MemoryRegion& wanted) const noexcept;
    /// Unmaps a region that find() gave.
    void remove(const GuestRegion& region);
    /// Notes where the NIC sees the region that starts at `guest`; raw 0 takes it back. False: no such region.
    bool set_iova(mem::GuestPhys guest, mem::Iova iova) noexcept;

    std::span<const GuestRegion> regions() const { return regions_; }
    /// The front-end took away memory that it had announced. What is read there are zeros.
    bool lost() const noexcept {
        return std::ranges::any_of(regions_, [](const GuestRegion& region) { return region.mapping.lost(); });
    }

private:
    std::vector<GuestRegion> regions_;
};

}  // namespace vitrine::virtio
