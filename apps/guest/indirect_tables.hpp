#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/ring_config.hpp"
#include "mem/address.hpp"
#include "virtio/packed_ring.hpp"

namespace vitrine::guest {

/// Memory for a table of descriptors for each chain of a ring, split or packed: both kinds are of one size.
class IndirectTables {
public:
    static std::size_t memory_bytes(const RingConfig& config) {
        const std::size_t tables = config.indirect ? table_bytes(config) * config.entries : 0;
        return tables + virtio::descriptor_table_alignment;
    }
    /// Without --indirect, and with a marker, there are none. Throws std::bad_alloc when `ram` is too small.
    IndirectTables(GuestRam& ram, const RingConfig& config) : table_bytes_(table_bytes(config)) {
        if (!config.indirect || config.marker) return;
        tables_ = ram.allocate(table_bytes_ * config.entries, virtio::descriptor_table_alignment).data();
        address_ = ram.address_of(tables_);
    }
    std::byte* table(std::uint16_t index) const { return tables_ + table_bytes_ * index; }
    mem::GuestPhys address(std::uint16_t index) const { return address_ + table_bytes_ * index; }

private:
    static std::size_t table_bytes(const RingConfig& config) {
        static_assert(sizeof(virtio::Descriptor) == sizeof(virtio::PackedDescriptor));
        return sizeof(virtio::Descriptor) * config.most_segments;
    }

    std::size_t table_bytes_;
    std::byte* tables_ = nullptr;
    mem::GuestPhys address_{};
};

}  // namespace vitrine::guest
