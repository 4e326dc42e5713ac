#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "apps/frame/neighbour.hpp"
#include "apps/frame/neighbour_message.hpp"
#include "apps/frame/outer_reader.hpp"
#include "apps/frame/outer_writer.hpp"
#include "apps/vitrine/counters.hpp"
#include "apps/vitrine/tunnel_options.hpp"
#include "driver/rx_ring.hpp"

namespace vitrine::apps {

/// Our end of a tunnel, for all pairs: which frames are the guest's and where in them its bytes begin, what goes in
/// front of those that it sends, and a small host beside it that answers for our address and finds the other end.
///
/// The poll thread's; the control thread may ask for next_hop() at any time, and start() it inside a hold.
class Tunnel {
public:
    using Time = Neighbour::Time;

    explicit Tunnel(const TunnelOptions& options)
        : options_(options), neighbour_(options.next_hop_mac ? Neighbour(*options.next_hop_mac) : Neighbour()) {}

    /// Before the queues start: the VF's address is the outer one.
    void start(const MacAddress& own) noexcept;

    /// At most `Time` apart of a second: asks for the next hop when it is time to.
    void tick(Time now) noexcept;

    /// What to do with a frame from the wire.
    struct Arrival {
        std::uint64_t ReceivePathCounters::* consumed;  ///< null: the guest's; else it is done, and counts as this
        std::uint32_t offset = 0;                       ///< of the guest's first byte, in the first packet
        std::uint32_t length_bytes = 0;                 ///< of the guest's frame
    };
    /// `packets` are the frame, of `frame_bytes` in all; the headers are read once, into a private copy.
    Arrival arrive(const mem::PagePool& pool, std::span<const driver::Packet> packets,
                   std::size_t frame_bytes) noexcept;

    /// Bytes in front of each of the guest's frames; 0: a VLAN alone, where the NIC puts the tag on.
    std::size_t outer_bytes() const noexcept { return writer_ ? writer_->bytes() : 0; }
    void write_outer(std::byte* to, const MacAddress& next_hop, std::span<const std::byte> inner_headers,
                     std::size_t inner_bytes) const noexcept {
        writer_->write(to, next_hop, inner_bytes, flow_hash(inner_headers));
    }
    std::optional<MacAddress> next_hop() const noexcept { return neighbour_.address(); }
    /// It may soon be known: frames can wait.
    bool next_hop_is_near() const noexcept { return neighbour_.is_hopeful(); }

    /// A frame of our own to send: an answer or a question. Null: none.
    const NeighbourFrame* outgoing() const noexcept { return outgoing_ != 0 ? &outbox_[outgoing_ - 1] : nullptr; }
    void sent() noexcept { --outgoing_; }

    const TunnelOptions& options() const { return options_; }

private:
    /// Answers to more askers in one turn would be a flood; who asked asks again.
    static constexpr std::size_t most_outgoing = 8;

    bool hear(const mem::PagePool& pool, std::span<const driver::Packet> packets) noexcept;
    bool udp_checksum_is_right(const mem::PagePool& pool, std::span<const driver::Packet> packets,
                               std::span<const std::byte> headers, const OuterFrame& outer) const noexcept;
    void post(const NeighbourFrame& frame) noexcept {
        if (outgoing_ < outbox_.size()) outbox_[outgoing_++] = frame;
    }

    TunnelOptions options_;
    Neighbour neighbour_;
    std::optional<OuterWriter> writer_;
    NeighbourPlace place_;
    Time now_{};
    std::array<NeighbourFrame, most_outgoing> outbox_;
    std::size_t outgoing_ = 0;
};

}  // namespace vitrine::apps
