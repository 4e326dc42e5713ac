#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mem/address.hpp"
#include "virtio/counters.hpp"
#include "virtio/delivery.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"
#include "virtio/ring_queue.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// Frames on their way into buffers of the guest, each with the offset at which its data begins (docs/vrx.md, 5). All
/// buffers are alike: one piece, with room for a header in front of what a NIC may write. Either deliver() copies, or
/// take() hands out buffers that a NIC writes to and give_back() returns them; not both at a time. Poll thread.
class OffsetQueue : public RingQueue<DeviceRing> {
public:
    /// Where data begins, and where the header in front of a frame's first data does.
    static constexpr std::uint32_t data_offset = vrx::offset_room_bytes;
    static constexpr std::uint32_t header_offset = data_offset - sizeof(NetHeader);
    /// 9018 bytes in the smallest buffers, and some.
    static constexpr std::size_t most_buffers_of_any_frame = 8;

    /// At the first buffer after the ring's start. `mergeable`: a frame may fill several buffers.
    OffsetQueue(const GuestMemory& memory, DeviceRing ring, std::uint32_t buffer_bytes, bool mergeable,
                ReceiveCounters& counters) noexcept;

    using Outcome = Delivery;
    /// Copies the frame in `pieces` behind its header. `header.buffers` is filled in here. All or nothing; the driver
    /// sees it with the next publish().
    Outcome deliver(std::span<const std::span<const std::byte>> pieces, NetHeader header) noexcept;

    /// A buffer of the guest's.
    struct Buffer {
        std::uint16_t head = 0;
        std::byte* data = nullptr;  ///< null: no buffer
        mem::Iova iova{};           ///< where a NIC finds data; raw 0: not mapped for DMA
    };
    struct Filled {
        Buffer buffer;
        std::uint32_t length_bytes;
    };
    /// How much of a frame fits into one buffer, and how many buffers a frame can have.
    std::uint32_t room_bytes() const { return buffer_bytes_ - data_offset; }
    std::size_t most_buffers() const {
        // Descriptor N-1 is the marker's, so N-1 buffers is all that can ever wait.
        return mergeable_ ? std::min<std::size_t>(most_buffers_of_any_frame, ring_.entries() - 1u) : 1;
    }
    /// The next buffer that a NIC can write to, if there is one.
    Buffer take() noexcept;
    /// The oldest buffers that were taken, with a frame in them; the driver sees it with the next publish(). One with
    /// no byte in it was of a frame that failed: the header alone.
    void give_back(std::span<const Filled> frame, NetHeader header) noexcept;
    /// Un-takes what was not given back: nobody writes there any more.
    void roll_back() noexcept { ring_.roll_back(); }

private:
    Buffer buffer_at(std::uint16_t position) noexcept;

    const GuestMemory& memory_;
    std::uint32_t buffer_bytes_;
    bool mergeable_;
    ReceiveCounters& counters_;
};

}  // namespace vitrine::virtio
