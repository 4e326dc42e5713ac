#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/ring_end.hpp"
#include "apps/guest/schedule.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::guest {

/// How a driver tells its virtio-net device what it wants: features, where the rings lie, when they run. What the rings
/// mean is the ports' affair. Everything throws std::system_error that names the attempt.
class Transport {
public:
    virtual ~Transport() = default;
    /// What both sides want.
    std::uint64_t features() const { return features_; }
    /// Up to the duplex field at least; nothing when the device does not show it.
    const std::optional<virtio::NetConfig>& config() const { return config_; }

    /// Zeroed memory that the device can reach. It must not outlive the transport.
    virtual GuestRam make_ram(std::size_t bytes, mem::Backing backing) = 0;
    /// Gives the device memory and rings, as when the driver says DRIVER_OK. `rings[i]` becomes ring i; null: that ring
    /// stays unused.
    virtual void activate(const GuestRam& ram, std::span<RingEnd* const> rings) = 0;
    /// Stops the rings, as when the driver resets the device.
    virtual void deactivate(std::span<RingEnd* const> rings) = 0;

    /// To be called now and then. False when the device is gone, or does nothing any more until it is reset.
    virtual bool keep(Clock::time_point now) = 0;
    /// The device is gone for the moment, and keep() looks for its return.
    virtual bool away() const noexcept { return false; }
    /// How often it has returned.
    virtual std::uint64_t returns() const noexcept { return 0; }
    /// Whether the device calls through the rings' eventfds. If not, who waits looks again after a nap.
    virtual bool calls() const noexcept = 0;
    /// To be waited for beside those: readable when the device is gone. -1: there is no such thing.
    virtual int descriptor() const noexcept = 0;

protected:
    Transport() = default;
    Transport(Transport&&) = default;
    Transport& operator=(Transport&&) = default;

    std::uint64_t features_ = 0;
    std::optional<virtio::NetConfig> config_;
};

}  // namespace vitrine::guest
