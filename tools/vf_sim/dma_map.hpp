#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/guarded_mapping.hpp"

namespace vitrine::vf_sim {

/// The simulator's IOMMU: the only place where an address of the device becomes a pointer. An access outside of what
/// the client mapped, or against its permission, does not happen and is counted.
///
/// MODEL: a client that shrinks its file later, or maps a hole that its file system cannot fill, gives the device
/// zeros and takes its writes, where an IOMMU would report a fault; such mappings are counted.
class DmaMap {
public:
    enum class Access { read, write };  ///< by the device
    struct Faults {
        std::uint64_t unmapped = 0;
        std::uint64_t permission = 0;
        std::uint64_t null_address = 0;  ///< address 0 as a buffer (82599 data sheet, 7.1.5)
    };
    static constexpr std::uint64_t page_bytes = 4096;  ///< addresses, offsets and sizes are multiples of it

    /// `file` none: a range without memory behind it (a ROM window); success without effect, any DMA to it is a fault.
    /// The error is an errno: EEXIST on overlap, EINVAL for bad numbers or a file that is too short, ENOSPC.
    std::expected<void, int> map(mem::Iova address, std::uint64_t bytes, const mem::FileDescriptor& file,
                                 std::uint64_t offset, bool readable, bool writable);
    /// Removes every mapping inside the range; none is success too. EINVAL when the range would cut a mapping.
    std::expected<void, int> unmap(mem::Iova address, std::uint64_t bytes);
    void clear() { regions_.clear(); }
    std::size_t size() const { return regions_.size(); }
    /// While broken, every access is a fault.
    void set_broken(bool broken) { broken_ = broken; }

    /// A descriptor: `bytes` divide page_bytes and the address is a multiple of them. Null on a fault.
    std::byte* at(mem::Iova address, std::size_t bytes, Access access) noexcept;
    /// Buffers may cross from one mapping into the next. False on a fault; then nothing was copied by write().
    bool read(mem::Iova address, std::span<std::byte> to) noexcept;
    bool write(mem::Iova address, std::span<const std::byte> from) noexcept;
    bool check(mem::Iova address, std::size_t bytes, Access access) noexcept;

    const Faults& faults() const { return faults_; }
    /// Mappings whose memory the client took away.
    std::size_t lost() const;

private:
    struct Region {
        std::uint64_t first;
        std::uint64_t last;  ///< inclusive: a range may end at the top of the address space
        std::byte* host;
        bool readable;
        bool writable;
        mem::GuardedMapping mapping;
    };
    static constexpr std::size_t most_regions = 65535;

    /// The permitted region around `address`; null and counted otherwise.
    const Region* find(std::uint64_t address, Access access) noexcept;
    /// Calls `use(host, bytes)` for each piece; false on a fault.
    template <class Use>
    bool for_each_piece(mem::Iova address, std::size_t bytes, Access access, Use use) noexcept;

    std::vector<Region> regions_;  // by address
    std::size_t last_hit_ = 0;
    Faults faults_;
    bool broken_ = false;
};

}  // namespace vitrine::vf_sim
