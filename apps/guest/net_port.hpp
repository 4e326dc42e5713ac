#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <vector>

#include "apps/guest/driver_ring.hpp"
#include "apps/guest/guest_ram.hpp"
#include "apps/guest/packed_driver_ring.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::guest {

/// For ppoll().
timespec to_timespec(std::chrono::nanoseconds time) noexcept;

/// A received frame, where the device put it: over one or more buffers, behind the header. Valid until release().
struct Frame {
    virtio::NetHeader header;
    std::span<const std::span<const std::byte>> pieces;
    std::size_t length_bytes;

    /// The frame in one piece: itself when it is, else copied to `scratch`, which must hold it.
    std::span<const std::byte> contiguous(std::span<std::byte> scratch) const noexcept;
};

struct NetPortConfig {
    RingConfig ring{};
    bool mergeable = true;                       ///< MRG_RXBUF was agreed
    std::size_t receive_buffer_bytes = 1536;     ///< with header; as Linux posts them at MTU 1500
    std::size_t transmit_buffer_bytes = 10240;   ///< with header
    std::chrono::milliseconds call_grace{1000};  ///< how late a call may come before it counts as missing
    /// VRX OFFSET on split rings (docs/vrx.md, 5): each buffer holds what a NIC writes into a page, behind the room in
    /// front.
    void receive_at_offsets(std::uint32_t region_tag, std::size_t page_bytes);
};

/// A virtio-net driver's pair of rings, split or packed, with their buffers. One thread. The poll path is
///     for (const Frame& frame : port.receive()) ...;
///     port.release();
/// and for sending: fill transmit_buffer(), send(), and after the burst flush().
template <class Ring>
class BasicNetPort {
public:
    using Config = NetPortConfig;
    /// Bytes of guest RAM that a port takes at most.
    static std::size_t memory_bytes(const Config& config);
    static constexpr std::size_t most_frames_per_burst = 64;

    /// No buffer is posted yet: a guest does that when its interface comes up, after the device was started.
    BasicNetPort(GuestRam& ram, const Config& config);

    /// Posts all receive buffers.
    void post_buffers() noexcept;

    /// The next frames, at most most_frames_per_burst; breaches of the rules are counted on the way.
    std::span<const Frame> receive() noexcept;
    /// Posts the buffers of the frames that receive() returned again.
    void release() noexcept;

    /// Where to write the next frame, or nothing while the device has all buffers.
    std::span<std::byte> transmit_buffer() noexcept;
    /// Queues the first `length_bytes` of transmit_buffer(). The device sees it with the next flush().
    void send(std::size_t length_bytes) noexcept;
    void flush() noexcept { transmit_ring_.publish(); }
    /// Takes sent frames back; returns how many.
    std::size_t reclaim() noexcept;
    std::size_t in_flight() const { return transmit_ring_.outstanding(); }

    /// Sleeps until the device calls, `backend` is gone, one of `also` is readable, a signal comes, or the limit is
    /// over. Calls are asked for first and the rings looked at again, so nothing that came before is slept over. A
    /// back-end that is gone (-1 already) owes no call.
    void sleep(std::chrono::nanoseconds limit, int backend, std::span<const int> also = {}) noexcept;
    static constexpr std::size_t most_also = 4;

    bool broken() const { return receive_ring_.broken() || receive_ring_.refused() || transmit_ring_.broken(); }
    /// Used buffers that held no more than a header: a frame that failed on the device.
    std::uint64_t empty_frames() const { return empty_frames_; }
    std::size_t receive_buffer_bytes() const { return config_.receive_buffer_bytes; }
    Ring& receive_ring() { return receive_ring_; }
    Ring& transmit_ring() { return transmit_ring_; }

private:
    /// Adds header and frame as one chain. False: no room.
    bool add(Ring& ring, mem::GuestPhys address, std::uint32_t length_bytes, bool device_writes,
             std::uint32_t buffer) noexcept;
    bool add_receive_buffer(std::uint32_t buffer) noexcept;
    std::span<std::byte> receive_buffer(std::uint32_t buffer) const noexcept {
        return {receive_buffers_[buffer], config_.receive_buffer_bytes};
    }
    /// Takes one frame into frames_; false when there is none, or an empty one.
    bool take_frame(UsedChain first) noexcept;
    void check_call(Ring& ring, int backend) noexcept;

    GuestRam& ram_;
    Config config_;
    Ring receive_ring_;
    Ring transmit_ring_;
    std::vector<std::byte*> receive_buffers_;
    std::vector<std::byte*> transmit_buffers_;

    // No vector grows past what the constructor reserved.
    std::vector<Frame> frames_;                       ///< of this burst
    std::vector<std::span<const std::byte>> pieces_;  ///< of this burst
    std::vector<std::uint32_t> held_buffers_;         ///< not with the device
    std::vector<std::uint32_t> free_transmit_buffers_;
    std::uint64_t empty_frames_ = 0;
};
extern template class BasicNetPort<DriverRing>;
extern template class BasicNetPort<PackedDriverRing>;

using NetPort = BasicNetPort<DriverRing>;
using PackedNetPort = BasicNetPort<PackedDriverRing>;

}  // namespace vitrine::guest
