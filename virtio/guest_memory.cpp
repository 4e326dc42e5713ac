#include "virtio/guest_memory.hpp"

#include <algorithm>
#include <fcntl.h>
#include <limits>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

namespace vitrine::virtio {

namespace {

/// Mappings of a file start and end at multiples of this.
std::uint64_t mapping_granularity(int file) {
    struct statfs status{};
    if (::fstatfs(file, &status) != 0) mem::throw_errno("fstatfs of guest memory");
    if (status.f_type == HUGETLBFS_MAGIC) return static_cast<std::uint64_t>(status.f_bsize);
    return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

bool overflows(std::uint64_t start, std::uint64_t bytes) {
    return bytes > std::numeric_limits<std::uint64_t>::max() - start;
}

bool overlaps(std::uint64_t one, std::uint64_t one_bytes, std::uint64_t other, std::uint64_t other_bytes) {
    return one < other + other_bytes && other < one + one_bytes;
}

}  // namespace

std::byte* GuestMemory::translate(mem::FrontendVirtual address, std::uint64_t length_bytes) const noexcept {
    for (const GuestRegion& region : regions_) {
        const std::uint64_t offset = address - region.user;
        if (offset < region.size_bytes && length_bytes <= region.size_bytes - offset) return region.host + offset;
    }
    return nullptr;
}

std::expected<void, RegionFault> GuestMemory::add(const vhost_user::MemoryRegion& wanted, mem::FileDescriptor file) {
    const std::uint64_t bytes = wanted.size_bytes;
    if (bytes == 0) return std::unexpected(RegionFault::empty);
    if (overflows(wanted.guest_address, bytes) || overflows(wanted.user_address, bytes) ||
        overflows(wanted.mmap_offset, bytes))
        return std::unexpected(RegionFault::overflow);
    if (regions_.size() >= most_regions) return std::unexpected(RegionFault::too_many);
    for (const GuestRegion& region : regions_)
        if (overlaps(wanted.guest_address, bytes, region.guest.raw, region.size_bytes) ||
            overlaps(wanted.user_address, bytes, region.user.raw, region.size_bytes))
            return std::unexpected(RegionFault::overlap);
    if (mem::file_bytes(file.get()) < wanted.mmap_offset + bytes) return std::unexpected(RegionFault::short_file);

    const std::uint64_t granularity = mapping_granularity(file.get());
    const std::uint64_t lead = wanted.mmap_offset % granularity;
    const std::uint64_t whole = (lead + bytes + granularity - 1) / granularity * granularity;
    mem::GuardedMapping mapping(file.get(), whole, wanted.mmap_offset - lead, mem::Access::read_write);
    std::byte* const host = mapping.data() + lead;
    const int seals = ::fcntl(file.get(), F_GET_SEALS);
    regions_.push_back({.guest = {wanted.guest_address},
                        .user = {wanted.user_address},
                        .size_bytes = bytes,
                        .file = std::move(file),
                        .file_offset = wanted.mmap_offset,
                        .mapping = std::move(mapping),
                        .host = host,
                        .iova = {},
                        .front_end_can_shrink = seals < 0 || (seals & F_SEAL_SHRINK) == 0});
    return {};
}

const GuestRegion* GuestMemory::find(const vhost_user::MemoryRegion& wanted) const noexcept {
    const auto found = std::ranges::find_if(regions_, [&](const GuestRegion& region) {
        return region.guest.raw == wanted.guest_address && region.user.raw == wanted.user_address &&
               region.size_bytes == wanted.size_bytes;
    });
    return found == regions_.end() ? nullptr : &*found;
}

void GuestMemory::remove(const GuestRegion& region) {
    regions_.erase(regions_.begin() + (&region - regions_.data()));
}

bool GuestMemory::set_iova(mem::GuestPhys guest, mem::Iova iova) noexcept {
    const auto found = std::ranges::find(regions_, guest, &GuestRegion::guest);
    if (found == regions_.end()) return false;
    found->iova = iova;
    return true;
}

}  // namespace vitrine::virtio
