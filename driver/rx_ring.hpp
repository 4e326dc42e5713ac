#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/descriptors.hpp"
#include "driver/doorbell.hpp"
#include "mem/address.hpp"
#include "mem/page_pool.hpp"

namespace vitrine::driver {

/// What the NIC says of a frame's TCP or UDP checksum.
enum class Checksum : std::uint8_t { unknown, good, bad };

/// One buffer of a received frame; the caller owns the page (Holder::device). A frame longer than a page comes as
/// several packets in order, the last with `end_of_packet`. If any of them has `error`, drop the whole frame.
struct Packet {
    mem::PageId page;
    std::uint16_t length_bytes;  ///< in this page, from its first byte; without CRC
    bool end_of_packet;
    bool error;
    Checksum l4_checksum = Checksum::unknown;  ///< with end_of_packet
    std::uint16_t vlan = 0;                    ///< with end_of_packet: of the tag that the NIC took off; 0: none
};

/// What the NIC may write into a page, in the units of VFSRRCTL: all of it up to 10 KiB, which holds a jumbo frame.
constexpr std::uint32_t packet_buffer_kib(std::size_t page_bytes) {
    return static_cast<std::uint32_t>(page_bytes / 1024 < 10 ? page_bytes / 1024 : 10);
}

/// A receive queue in memory. All slots but one are armed with a page each; the spare one, just behind the next to
/// finish, keeps tail and head apart, which the NIC would read as "no buffers".
///
/// Poll thread only; fill() and release() while it stands still and the queue is enabled / disabled.
class RxRing {
public:
    /// `slots`: a power of two, 128-byte aligned, mapped for DMA. The pool's pages are the buffers.
    RxRing(std::span<RxDescriptor> slots, Doorbell tail, mem::PagePool& pool);

    /// Arms the ring from slot 0, after the queue was enabled (heads at 0, and the NIC takes no tail before).
    /// Throws std::system_error (ENOMEM) when the pool has fewer free pages than the ring has slots.
    void fill();

    /// Moves finished packets into `out`, oldest first, and arms one fresh page for each. Stops early when the NIC has
    /// nothing more or the pool is empty. Writes the tail at most once.
    std::size_t receive(std::span<Packet> out) noexcept;

    /// True when the NIC has finished `packets` or more that nobody has received: how full its queue is. One load.
    bool backlog_at_least(std::size_t packets) const noexcept;

    /// Gives the pages of a disabled queue back to the pool. Returns how many finished frames were lost with them.
    std::size_t release() noexcept;

    /// Of the descriptor that the NIC is to finish next, counted from fill(); wraps.
    std::uint32_t position() const noexcept { return next_; }

    /// Pages that the NIC holds: all slots but the spare one, from fill() to release().
    std::size_t armed() const noexcept { return filled_ ? slots_.size() - 1 : 0; }

    /// False while a tail write waits for room in the device's socket: do not sleep then.
    bool settled() const noexcept { return tail_.settled(); }

    struct Counters {
        std::uint64_t frames = 0;           ///< whole ones, good or bad
        std::uint64_t bytes = 0;            ///< without CRC
        std::uint64_t bad_descriptors = 0;  ///< more than a buffer holds, or nothing; delivered as error
        std::uint64_t errors = 0;           ///< error bits that the PF should have kept away; delivered as error
        std::uint64_t out_of_order = 0;     ///< times that a descriptor was finished before the one in front of it
        std::uint64_t pool_empty = 0;       ///< bursts cut short because no page was free

        Counters& operator+=(const Counters& other) {
            frames += other.frames;
            bytes += other.bytes;
            bad_descriptors += other.bad_descriptors;
            errors += other.errors;
            out_of_order += other.out_of_order;
            pool_empty += other.pool_empty;
            return *this;
        }
    };
    const Counters& counters() const { return counters_; }

private:
    std::uint32_t mask() const { return static_cast<std::uint32_t>(slots_.size() - 1); }
    RxDone done(std::uint32_t slot) const noexcept;
    void arm(std::uint32_t slot) noexcept;
    static void describe(Packet& packet, const RxDone& word) noexcept;
    void note_hole() noexcept;

    std::span<RxDescriptor> slots_;
    std::vector<mem::PageId> pages_;  // beside the ring: the NIC overwrites addresses
    mem::PagePool& pool_;
    Doorbell tail_;
    std::uint32_t buffer_bytes_;
    std::uint32_t next_ = 0;
    static constexpr std::uint32_t no_hole = ~std::uint32_t{0};
    std::uint32_t last_hole_ = no_hole;  // where next_ stood when one was seen
    bool filled_ = false;
    Counters counters_;
};

}  // namespace vitrine::driver
