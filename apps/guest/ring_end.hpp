#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/violations.hpp"
#include "mem/file_descriptor.hpp"
#include "virtio/split_ring.hpp"

namespace vitrine::guest {

/// Where a driver's ring lies and how both sides wake each other: all that a front-end has to tell the device. What
/// the ring means is its driver's affair.
class RingEnd {
public:
    RingEnd(const RingEnd&) = delete;
    RingEnd& operator=(const RingEnd&) = delete;

    std::uint16_t entries() const { return entries_; }
    const std::byte* descriptors() const { return descriptors_; }
    const std::byte* available() const { return available_ring_; }
    const std::byte* used() const { return used_ring_; }
    std::uint16_t available_index() const noexcept {
        return load(available_ring_ + offsetof(virtio::RingHeader, index), std::memory_order_relaxed);
    }
    std::uint16_t used_index() const noexcept {
        return load(used_ring_ + offsetof(virtio::RingHeader, index), std::memory_order_acquire);
    }
    /// Kicks go to a register of the device from now on, and not to the eventfd.
    void kick_by(volatile std::uint16_t* where, std::uint16_t value) noexcept {
        notify_register_ = where;
        notify_value_ = value;
    }
    int kick_descriptor() const { return kick_.get(); }
    int call_descriptor() const { return call_.get(); }

    void note(Violation violation) noexcept { violations_.count(violation); }
    const Violations& violations() const { return violations_; }
    std::uint64_t kicks() const { return kicks_; }
    std::uint64_t kicks_suppressed() const { return kicks_suppressed_; }
    std::uint64_t calls() const { return calls_; }
    /// Reads the call eventfd. False: it was not signalled.
    bool drain_call() noexcept {
        const bool called = call_.drain();
        if (called) ++calls_;
        return called;
    }

protected:
    /// Guest memory that the parts of a ring take at most.
    static std::size_t ring_bytes(std::size_t entries) {
        return virtio::descriptor_table_bytes(entries) + virtio::available_ring_bytes(entries) +
               virtio::used_ring_bytes(entries) + 2 * virtio::descriptor_table_alignment;
    }
    /// Throws std::bad_alloc when `ram` is too small, std::system_error when there is no eventfd to be had.
    RingEnd(GuestRam& ram, std::uint16_t entries)
        : entries_(entries),
          descriptors_(
              ram.allocate(virtio::descriptor_table_bytes(entries), virtio::descriptor_table_alignment).data()),
          available_ring_(ram.allocate(virtio::available_ring_bytes(entries), virtio::available_ring_alignment).data()),
          used_ring_(ram.allocate(virtio::used_ring_bytes(entries), virtio::used_ring_alignment).data()) {}
    ~RingEnd() = default;

    std::uint16_t mask() const { return static_cast<std::uint16_t>(entries_ - 1); }
    static std::uint16_t load(std::byte* field, std::memory_order order) noexcept {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).load(order);
    }
    static void store(std::byte* field, std::uint16_t value, std::memory_order order) noexcept {
        std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).store(value, order);
    }
    /// One kick, or a note that none was wanted.
    void kick(bool wanted) noexcept {
        if (wanted && notify_register_ != nullptr)
            *notify_register_ = notify_value_;
        else if (wanted)
            kick_.signal();
        ++(wanted ? kicks_ : kicks_suppressed_);
    }

    const std::uint16_t entries_;
    std::byte* const descriptors_;
    std::byte* const available_ring_;
    std::byte* const used_ring_;

private:
    mem::EventFd kick_;
    mem::EventFd call_;
    volatile std::uint16_t* notify_register_ = nullptr;
    std::uint16_t notify_value_ = 0;
    Violations violations_;
    std::uint64_t kicks_ = 0;
    std::uint64_t kicks_suppressed_ = 0;
    std::uint64_t calls_ = 0;
};

}  // namespace vitrine::guest
