#include "virtio/transmit_queue.hpp"

#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>

namespace vitrine::virtio {

namespace {

constexpr std::uint32_t least_frame_bytes = 14;
/// A guest that queues nothing but rubbish must not keep the poll thread for ever.
constexpr unsigned most_drops_per_call = 64;
/// Of one chain. Empty descriptors count, which a table can have 32768 of.
constexpr unsigned most_descriptors = 1024;

/// The guest may rewrite its memory while we copy: the fence keeps the compiler from reading it a second time.
void copy_once(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
    std::memcpy(to, from, bytes);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

}  // namespace

template <class Ring>
BasicTransmitQueue<Ring>::BasicTransmitQueue(const GuestMemory& memory, Ring ring, std::uint32_t most_frame_bytes,
                                             Mode mode, TransmitCounters& counters)
    : RingQueue<Ring>(std::move(ring)),
      memory_(memory),
      most_frame_bytes_(most_frame_bytes),
      mode_(mode),
      counters_(counters),
      taken_(std::bit_ceil<std::size_t>(ring_.entries())) {}

template <class Ring>
std::optional<TransmitKinds::Frame> BasicTransmitQueue<Ring>::next() noexcept {
    for (unsigned drops = 0; drops < most_drops_per_call && ring_.waiting(1) != 0; ++drops) {
        Frame frame{};
        std::uint16_t head = 0;
        const Reason drop = read(head, frame);
        if (ring_.broken()) break;
        taken(ring_.next()) = {.head = head, .length_bytes = frame.length_bytes, .drop = drop};
        ring_.take(1);
        if (drop == nullptr) {
            ++in_flight_;
            return frame;
        }
        complete_dropped();
    }
    return std::nullopt;
}

template <class Ring>
auto BasicTransmitQueue<Ring>::read(std::uint16_t& head, Frame& frame) noexcept -> Reason {
    std::size_t pieces = 0;
    unsigned descriptors = 0;
    std::uint64_t chain_bytes = 0;
    Reason drop = nullptr;
    const auto add = [&](const Descriptor& descriptor) {
        if (descriptor.flags & Descriptor::device_writes) {
            drop = &TransmitCounters::tx_bad_chain;
            return false;
        }
        if (++descriptors > most_descriptors) {
            drop = &TransmitCounters::tx_many_pieces;
            return false;
        }
        for (std::uint32_t offset = 0; offset < descriptor.length_bytes;) {
            const auto range =
                memory_.translate(mem::GuestPhys{descriptor.address + offset}, descriptor.length_bytes - offset);
            if (range.length_bytes == 0) drop = &TransmitCounters::tx_bad_chain;
            if (pieces == pieces_.size()) drop = &TransmitCounters::tx_many_pieces;
            if (drop != nullptr) return false;
            const auto length_bytes = static_cast<std::uint32_t>(range.length_bytes);
            pieces_[pieces++] = {.host = range.host, .length_bytes = length_bytes, .iova = range.iova};
            offset += length_bytes;
        }
        chain_bytes += descriptor.length_bytes;
        return true;
    };
    if (ring_.walk(ring_.next(), head, add) != RingBase::Walk::complete) return drop;
    if (mode_ == Mode::discard) return &TransmitCounters::tx_disabled;

    if (chain_bytes < sizeof(NetHeader)) return &TransmitCounters::tx_bad_header;
    frame.pieces = split_header(pieces, frame.header);
    // Offloads are not offered, so nothing else in the header has a meaning (VIRTIO 1.3, 5.1.6.2).
    if ((frame.header.flags & NetHeader::needs_checksum) || frame.header.gso_type != NetHeader::gso_none)
        return &TransmitCounters::tx_bad_header;
    const std::uint64_t frame_bytes = chain_bytes - sizeof(NetHeader);
    if (frame_bytes < least_frame_bytes) return &TransmitCounters::tx_short;
    if (frame_bytes > most_frame_bytes_) return &TransmitCounters::tx_oversize;
    if (frame.pieces.size() > most_pieces) return &TransmitCounters::tx_many_pieces;
    frame.length_bytes = static_cast<std::uint32_t>(frame_bytes);
    return nullptr;
}

template <class Ring>
std::span<const TransmitKinds::Piece> BasicTransmitQueue<Ring>::split_header(std::size_t pieces,
                                                                             NetHeader& header) noexcept {
    std::array<std::byte, sizeof(NetHeader)> bytes;
    std::size_t copied = 0;
    std::size_t first = 0;
    while (copied < bytes.size()) {
        Piece& piece = pieces_[first];
        const std::size_t missing = bytes.size() - copied;
        const auto count = static_cast<std::uint32_t>(piece.length_bytes < missing ? piece.length_bytes : missing);
        copy_once(bytes.data() + copied, piece.host, count);
        copied += count;
        if (count == piece.length_bytes) {
            ++first;
            continue;
        }
        piece = {.host = piece.host + count,
                 .length_bytes = piece.length_bytes - count,
                 .iova = piece.iova.raw == 0 ? mem::Iova{} : piece.iova + count};
    }
    header = std::bit_cast<NetHeader>(bytes);
    return std::span(pieces_).subspan(first, pieces - first);
}

template <class Ring>
void BasicTransmitQueue<Ring>::complete_oldest(std::size_t frames) noexcept {
    assert(frames <= in_flight_);
    for (; frames > 0; --frames) {
        const Taken& oldest = taken(ring_.used());  // dropped ones before it are gone already
        ++counters_.frames;
        counters_.bytes += oldest.length_bytes;
        --in_flight_;
        ring_.give_back(oldest.head, 0);
        complete_dropped();
    }
}

template <class Ring>
void BasicTransmitQueue<Ring>::complete_dropped() noexcept {
    while (ring_.used() != ring_.next() && taken(ring_.used()).drop != nullptr) {
        const Taken& oldest = taken(ring_.used());
        ++(counters_.*oldest.drop);
        ring_.give_back(oldest.head, 0);
    }
}

template <class Ring>
void BasicTransmitQueue<Ring>::roll_back() noexcept {
    ring_.roll_back();
    in_flight_ = 0;
}

template class BasicTransmitQueue<DeviceRing>;
template class BasicTransmitQueue<PackedDeviceRing>;

}  // namespace vitrine::virtio
