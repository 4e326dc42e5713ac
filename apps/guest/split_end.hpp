#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/ring_end.hpp"
#include "virtio/split_ring.hpp"

namespace vitrine::guest {

/// The driver's end of a split ring (VIRTIO 1.3, 2.7): descriptor table, available ring, used ring.
class SplitEnd : public RingEnd {
public:
    std::uint16_t used_index() const noexcept {
        return load(used_ring_ + offsetof(virtio::RingHeader, index), std::memory_order_acquire);
    }

    /// avail.idx, as cloud-hypervisor says it, and not used.idx.
    std::uint32_t base() const noexcept override {
        return load(available_ring_ + offsetof(virtio::RingHeader, index), std::memory_order_relaxed);
    }
    bool stands_at(std::uint32_t base) const noexcept override { return base == used_index(); }

protected:
    /// Guest memory that the parts of a ring take at most.
    static std::size_t ring_bytes(std::size_t entries) {
        return virtio::descriptor_table_bytes(entries) + virtio::available_ring_bytes(entries) +
               virtio::used_ring_bytes(entries) + 2 * virtio::descriptor_table_alignment;
    }
    /// Throws std::bad_alloc when `ram` is too small, std::system_error when there is no eventfd to be had.
    SplitEnd(GuestRam& ram, std::uint16_t entries)  // in braces: the areas are to lie in this order
        : RingEnd{entries, ram.allocate(virtio::descriptor_table_bytes(entries), virtio::descriptor_table_alignment),
                  ram.allocate(virtio::available_ring_bytes(entries), virtio::available_ring_alignment),
                  ram.allocate(virtio::used_ring_bytes(entries), virtio::used_ring_alignment)} {}

    std::uint16_t mask() const { return static_cast<std::uint16_t>(entries_ - 1); }
    static std::uint16_t load(std::byte* field, std::memory_order order) noexcept {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).load(order);
    }
    static void store(std::byte* field, std::uint16_t value, std::memory_order order) noexcept {
        std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).store(value, order);
    }

    std::byte* const available_ring_ = driver_area_;
    std::byte* const used_ring_ = device_area_;
};

}  // namespace vitrine::guest
