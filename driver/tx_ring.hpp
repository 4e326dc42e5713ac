#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "driver/descriptors.hpp"
#include "driver/doorbell.hpp"
#include "mem/address.hpp"

namespace vitrine::driver {

/// A piece of a frame in memory that the NIC may read.
struct Fragment {
    mem::Iova address;
    std::uint32_t length_bytes;
};

inline constexpr std::size_t most_tx_fragments = 38;          ///< 40 - WTHRESH - 2 (82599 data sheet, 7.2.1.1)
inline constexpr std::uint32_t least_tx_frame_bytes = 17;     ///< the NIC pads from there to 60
inline constexpr std::uint32_t most_tx_frame_bytes = 15'872;  ///< without segmentation
inline constexpr unsigned most_frames_without_report = 16;

enum class Sent : std::uint8_t {
    queued,
    no_room,  ///< try again after reclaim()
    refused,  ///< never sendable; counted by reason
};

/// A transmit queue in memory. Frames complete in ring order; the caller's cookies say which.
///
/// Every frame carries CC and refers to one context with a true MACLEN of 14, written in front of the first frame
/// (X550 malicious-driver detection). RS marks every 16th frame and the last before each tail write, so that an idle
/// tail completes and the NIC writes back few descriptors. Poll thread only; reset() while it stands still.
class TxRing {
public:
    /// `slots`: a power of two, 128-byte aligned, mapped for DMA. `vlan`: the NIC puts this tag on every frame; 0:
    /// none.
    TxRing(std::span<TxDescriptor> slots, Doorbell tail, std::uint16_t vlan = 0);

    /// Queues a frame (14 bytes of Ethernet header first, no CRC). The NIC sees it after flush().
    Sent send(std::span<const Fragment> frame, std::uint64_t cookie) noexcept;
    /// Shows the NIC what was queued: one tail write, or none when there is nothing new.
    void flush() noexcept;
    /// Cookies of finished frames, oldest first; their memory is free again.
    std::size_t reclaim(std::span<std::uint64_t> cookies) noexcept;

    /// Descriptors left. A frame needs one for each fragment, the first one after a start one more.
    std::size_t room() const noexcept { return slots_.size() - 1 - (next_ - free_from_); }
    /// Frames queued and not reclaimed.
    std::size_t in_flight() const noexcept { return next_frame_ - oldest_frame_; }
    /// Frames reclaimed since the start; wraps.
    std::uint32_t finished() const noexcept { return oldest_frame_; }
    bool settled() const noexcept { return tail_.settled(); }

    /// After the queue was disabled, and reclaim() has found what was sent: hands the cookies of the rest, oldest
    /// first, to `give_back` and starts over at slot 0.
    template <class GiveBack>
    void reset(GiveBack give_back) {
        for (; oldest_frame_ != next_frame_; ++oldest_frame_)
            give_back(std::as_const(frames_[at(oldest_frame_)].cookie));
        restart();
    }

    struct Counters {
        std::uint64_t too_short = 0;
        std::uint64_t too_long = 0;
        std::uint64_t too_many_fragments = 0;
        std::uint64_t bad_fragment = 0;  ///< empty, or at IOVA 0
    };
    const Counters& counters() const { return counters_; }

private:
    /// What the NIC's write-back would destroy: kept beside the ring. Indexed by frame number.
    struct Frame {
        std::uint64_t cookie;
        std::uint32_t end;  // descriptor number behind its last one
    };

    std::size_t at(std::uint32_t number) const noexcept { return number & (slots_.size() - 1); }
    bool sendable(std::span<const Fragment> frame, std::uint32_t& length_bytes) noexcept;
    void write_context() noexcept;
    void report_last() noexcept;
    void restart() noexcept;

    // Descriptors, frames and reports are numbered from 0 at the start; at() is where a number lies.
    std::span<TxDescriptor> slots_;
    std::vector<Frame> frames_;
    std::vector<std::uint32_t> reports_;  // frames whose last descriptor has RS
    Doorbell tail_;
    std::uint16_t vlan_;
    std::uint32_t next_ = 0;
    std::uint32_t shown_ = 0;  // descriptors that the NIC knows of
    std::uint32_t free_from_ = 0;
    std::uint32_t next_frame_ = 0;
    std::uint32_t oldest_frame_ = 0;
    std::uint32_t finished_frame_ = 0;  // all before it are written back
    std::uint32_t next_report_ = 0;
    std::uint32_t oldest_report_ = 0;
    unsigned frames_since_report_ = 0;
    bool has_context_ = false;  // lost when the queue stops
    Counters counters_;
};

}  // namespace vitrine::driver
