#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/guest/violations.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {

/// Where a driver's ring lies and how both sides wake each other: all that a front-end has to tell the device. What
/// the ring means is its driver's affair, and of what kind it is that of SplitEnd and PackedEnd.
class RingEnd {
public:
    virtual ~RingEnd() = default;
    RingEnd(const RingEnd&) = delete;
    RingEnd& operator=(const RingEnd&) = delete;

    std::uint16_t entries() const { return entries_; }
    /// The three areas of a virtqueue (VIRTIO 1.3, 2.6).
    const std::byte* descriptors() const { return descriptor_area_; }
    const std::byte* driver_area() const { return driver_area_; }
    const std::byte* device_area() const { return device_area_; }
    /// Where the device is to go on, as vhost-user's SET_VRING_BASE says it.
    virtual std::uint32_t base() const noexcept = 0;
    /// Whether GET_VRING_BASE's answer is what the ring's memory says.
    virtual bool stands_at(std::uint32_t base) const noexcept = 0;

    /// Kicks go to a register of the device from now on, and not to the eventfd.
    void kick_by(volatile std::uint16_t* where, std::uint16_t value) noexcept {
        notify_register_ = where;
        notify_value_ = value;
    }
    int kick_descriptor() const { return kick_.get(); }
    int call_descriptor() const { return call_.get(); }

    void note(Violation violation) noexcept { violations_.count(violation); }
    const Violations& violations() const { return violations_; }
    /// By a breach after which nothing can be trusted.
    bool broken() const { return broken_; }
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
    /// Throws std::system_error when there is no eventfd to be had.
    RingEnd(std::uint16_t entries, std::span<std::byte> descriptor_area, std::span<std::byte> driver_area,
            std::span<std::byte> device_area)
        : entries_(entries),
          descriptor_area_(descriptor_area.data()),
          driver_area_(driver_area.data()),
          device_area_(device_area.data()) {}

    void break_ring(Violation violation) noexcept {
        note(violation);
        broken_ = true;
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
    std::byte* const descriptor_area_;
    std::byte* const driver_area_;
    std::byte* const device_area_;

private:
    mem::EventFd kick_;
    mem::EventFd call_;
    volatile std::uint16_t* notify_register_ = nullptr;
    std::uint16_t notify_value_ = 0;
    Violations violations_;
    bool broken_ = false;
    std::uint64_t kicks_ = 0;
    std::uint64_t kicks_suppressed_ = 0;
    std::uint64_t calls_ = 0;
};

}  // namespace vitrine::guest
