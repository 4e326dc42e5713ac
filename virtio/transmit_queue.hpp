#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mem/address.hpp"
#include "virtio/counters.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/net_header.hpp"
#include "virtio/packed_device_ring.hpp"
#include "virtio/ring_queue.hpp"

namespace vitrine::virtio {

/// What transmit queues give out, whatever their ring.
struct TransmitKinds {
    /// A frame in more pieces than this is dropped.
    static constexpr std::size_t most_pieces = 64;

    /// Some bytes of a frame in guest memory. The guest can change them at any time: copy, then look.
    struct Piece {
        const std::byte* host;
        std::uint32_t length_bytes;
        mem::Iova iova;  ///< raw 0: the NIC cannot reach it
    };
    struct Frame {
        NetHeader header;               ///< our copy, checked
        std::span<const Piece> pieces;  ///< the bytes behind the header; valid until the next call of next()
        std::uint32_t length_bytes;     ///< their sum, 14 or more; padding to 60 is the transmitter's
    };

    /// What becomes of the chains that the guest queues.
    enum class Mode {
        send,
        discard,  ///< the front-end disabled the ring but wants it drained (vhost-user, "Ring states")
    };
};

/// Frames that the guest sends. Several may be in flight; they are completed in the order they came. Poll thread.
template <class Ring>
class BasicTransmitQueue : public RingQueue<Ring>, public TransmitKinds {
public:
    /// `most_frame_bytes` is the longest frame accepted, without header.
    BasicTransmitQueue(const GuestMemory& memory, Ring ring, std::uint32_t most_frame_bytes, Mode mode,
                       TransmitCounters& counters);

    /// The next frame, or none now. Malformed ones are dropped and counted on the way, at most 64 in a call, so none
    /// does not prove an empty ring: who drained one of rubbish looks again before it sleeps.
    std::optional<Frame> next() noexcept;

    /// Completes the `frames` that were given out longest ago; the driver sees it with the next publish().
    void complete_oldest(std::size_t frames) noexcept;

    /// Frames given out and not completed.
    std::size_t in_flight() const { return in_flight_; }
    /// Forgets what is in flight: the ring stands where the driver saw it complete, and would give the same frames out
    /// again. For a stop.
    void roll_back() noexcept;

private:
    using RingQueue<Ring>::ring_;

    /// The counter of a drop.
    using Reason = std::uint64_t TransmitCounters::*;
    /// A chain that was taken. Dropped ones wait here for their turn, as everything completes in order.
    struct Taken {
        std::uint16_t head;
        std::uint32_t length_bytes;
        Reason drop;  ///< nullptr: given out as a frame
    };

    /// Reads the chain at next() into `frame` and says why it must be dropped (nullptr: it is good). The ring may be
    /// broken afterwards.
    Reason read(std::uint16_t& head, Frame& frame) noexcept;
    /// Copies the header from the front of pieces_ and returns the pieces behind it.
    std::span<const Piece> split_header(std::size_t pieces, NetHeader& header) noexcept;
    /// Gives dropped chains back up to the oldest frame in flight.
    void complete_dropped() noexcept;
    Taken& taken(std::uint16_t position) { return taken_[position & (taken_.size() - 1)]; }

    const GuestMemory& memory_;
    std::uint32_t most_frame_bytes_;
    Mode mode_;
    TransmitCounters& counters_;
    std::vector<Taken> taken_;  ///< by ring position
    std::size_t in_flight_ = 0;
    std::array<Piece, most_pieces + sizeof(NetHeader)> pieces_;  ///< a header may come byte by byte
};

using TransmitQueue = BasicTransmitQueue<DeviceRing>;
using PackedTransmitQueue = BasicTransmitQueue<PackedDeviceRing>;

}  // namespace vitrine::virtio
