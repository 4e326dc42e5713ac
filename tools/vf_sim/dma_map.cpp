#include "tools/vf_sim/dma_map.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <sys/stat.h>
#include <system_error>

namespace vitrine::vf_sim {

std::expected<void, int> DmaMap::map(mem::Iova address, std::uint64_t bytes, const mem::FileDescriptor& file,
                                     std::uint64_t offset, bool readable, bool writable) {
    const std::uint64_t last = address.raw + bytes - 1;
    if (bytes == 0 || last < address.raw || (address.raw | bytes | offset) % page_bytes != 0)
        return std::unexpected(EINVAL);
    const auto next = std::ranges::lower_bound(regions_, address.raw, {}, &Region::last);
    if (next != regions_.end() && next->first <= last) return std::unexpected(EEXIST);
    if (!file) return {};
    if (regions_.size() == most_regions) return std::unexpected(ENOSPC);

    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return std::unexpected(errno);
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    if (!S_ISREG(status.st_mode) || offset > file_bytes || bytes > file_bytes - offset) return std::unexpected(EINVAL);

    // A file of huge pages is mapped in whole huge pages, even when the client shows us only a part of one.
    const auto block = static_cast<std::uint64_t>(status.st_blksize);
    const std::uint64_t unit = std::has_single_bit(block) && block > page_bytes ? block : page_bytes;
    const std::uint64_t start = offset & ~(unit - 1);
    const std::uint64_t end = (offset + bytes + unit - 1) & ~(unit - 1);
    try {
        mem::GuardedMapping mapping(file.get(), end - start, start,
                                    writable ? mem::Access::read_write : mem::Access::read_only);
        std::byte* host = mapping.data() + (offset - start);
        regions_.insert(next, Region{address.raw, last, host, readable, writable, std::move(mapping)});
    } catch (const std::system_error& error) {
        return std::unexpected(error.code().value());
    }
    return {};
}

std::expected<void, int> DmaMap::unmap(mem::Iova address, std::uint64_t bytes) {
    if (bytes == 0) return std::unexpected(EINVAL);
    const std::uint64_t last = address.raw + bytes - 1;
    if (last < address.raw) return std::unexpected(EINVAL);
    const auto begin = std::ranges::lower_bound(regions_, address.raw, {}, &Region::last);
    const auto end = std::ranges::upper_bound(regions_, last, {}, &Region::first);
    if (begin == end) return {};
    if (begin->first < address.raw || std::prev(end)->last > last) return std::unexpected(EINVAL);
    regions_.erase(begin, end);
    return {};
}

std::size_t DmaMap::lost() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(regions_, [](const Region& region) { return region.mapping.lost(); }));
}

const DmaMap::Region* DmaMap::find(std::uint64_t address, Access access) noexcept {
    if (broken_) {
        ++faults_.unmapped;
        return nullptr;
    }
    const auto holds = [&](const Region& region) { return region.first <= address && address <= region.last; };
    if (last_hit_ >= regions_.size() || !holds(regions_[last_hit_])) {
        const auto found = std::ranges::lower_bound(regions_, address, {}, &Region::last);
        if (found == regions_.end() || !holds(*found)) {
            ++faults_.unmapped;
            return nullptr;
        }
        last_hit_ = static_cast<std::size_t>(found - regions_.begin());
    }
    const Region& region = regions_[last_hit_];
    if (!(access == Access::read ? region.readable : region.writable)) {
        ++faults_.permission;
        return nullptr;
    }
    return &region;
}

std::byte* DmaMap::at(mem::Iova address, std::size_t bytes, Access access) noexcept {
    // Mappings are whole pages, so what is aligned to its own size never crosses one.
    if (address.raw % bytes != 0 || page_bytes % bytes != 0) {
        ++faults_.unmapped;
        return nullptr;
    }
    const Region* region = find(address.raw, access);
    return region == nullptr ? nullptr : region->host + (address.raw - region->first);
}

template <class Use>
bool DmaMap::for_each_piece(mem::Iova address, std::size_t bytes, Access access, Use use) noexcept {
    if (address.raw == 0) {
        ++faults_.null_address;
        return false;
    }
    while (bytes > 0) {
        const Region* region = find(address.raw, access);
        if (region == nullptr) return false;
        const std::uint64_t behind = region->last - address.raw;  // one less than what is left, which may be 2^64
        const std::size_t piece = behind < bytes ? static_cast<std::size_t>(behind) + 1 : bytes;
        use(region->host + (address.raw - region->first), piece);
        address = address + piece;
        bytes -= piece;
    }
    return true;
}

bool DmaMap::check(mem::Iova address, std::size_t bytes, Access access) noexcept {
    return for_each_piece(address, bytes, access, [](std::byte*, std::size_t) {});
}

bool DmaMap::read(mem::Iova address, std::span<std::byte> to) noexcept {
    return for_each_piece(address, to.size(), Access::read, [&](const std::byte* host, std::size_t bytes) {
        std::memcpy(to.data(), host, bytes);
        to = to.subspan(bytes);
    });
}

bool DmaMap::write(mem::Iova address, std::span<const std::byte> from) noexcept {
    if (!check(address, from.size(), Access::write)) return false;
    return for_each_piece(address, from.size(), Access::write, [&](std::byte* host, std::size_t bytes) {
        std::memcpy(host, from.data(), bytes);
        from = from.subspan(bytes);
    });
}

}  // namespace vitrine::vf_sim
