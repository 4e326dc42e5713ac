#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"
#include "driver/doorbell.hpp"
#include "mem/address.hpp"

namespace vitrine::driver {

/// What the NIC says of a frame's TCP or UDP checksum.
enum class Checksum : std::uint8_t { unknown, good, bad };

/// What the NIC said of one finished slot. A frame longer than a buffer comes as several in order, the last with
/// `end_of_packet`. If any of them has `error`, drop the whole frame.
struct Finished {
    std::uint16_t length_bytes;  ///< in this buffer, from its first byte; without CRC
    bool end_of_packet;
    bool error;
    Checksum l4_checksum = Checksum::unknown;  ///< with end_of_packet
    std::uint16_t vlan = 0;                    ///< with end_of_packet: of the tag that the NIC took off; 0: none
};

/// The part of a receive queue that does not ask whose buffers are in it: slots in ring order, and what the NIC writes
/// back. Poll thread only.
class RxSlots {
public:
    /// True when the NIC has finished `packets` or more that nobody has received: how full its queue is. One load.
    bool backlog_at_least(std::size_t packets) const noexcept {
        if (packets == 0) return true;
        if (packets > mask()) return false;
        return done((next_ + static_cast<std::uint32_t>(packets) - 1) & mask()).get(RxDone::done) != 0;
    }

    /// Of the descriptor that the NIC is to finish next, counted from the queue's start; wraps.
    std::uint32_t position() const noexcept { return next_; }

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

protected:
    /// `slots`: a power of two, 128-byte aligned, mapped for DMA. The NIC may write `buffer_bytes` to each buffer.
    RxSlots(std::span<RxDescriptor> slots, Doorbell tail, std::uint32_t buffer_bytes)
        : slots_(slots), tail_(tail), buffer_bytes_(buffer_bytes) {
        assert(std::has_single_bit(slots.size()));
        std::ranges::fill(slots_, RxDescriptor{});  // nothing is done until it was armed
    }
    ~RxSlots() = default;

    std::uint32_t mask() const { return static_cast<std::uint32_t>(slots_.size() - 1); }

    RxDone done(std::uint32_t slot) const noexcept {
        // One load carries both DD and length; acquire keeps reads of the payload behind it.
        return RxDone{{std::atomic_ref(slots_[slot].done).load(std::memory_order_acquire)}};
    }
    /// The slot at next_, counted, if the NIC has finished it. The caller moves next_ on. Filled in where it stays: a
    /// copy of fields just stored waits for them, 8 ns a frame.
    bool finished(Finished& slot) noexcept {
        const RxDone word = done(next_ & mask());
        if (!word.get(RxDone::done)) {
            note_hole();
            return false;
        }
        const auto length_bytes = static_cast<std::uint32_t>(word.get(RxDone::length_bytes));
        const bool end_of_packet = word.get(RxDone::end_of_packet) != 0;
        const bool bad = length_bytes == 0 || length_bytes > buffer_bytes_;
        const bool mac_error = end_of_packet && word.get(RxDone::mac_error) != 0;
        counters_.bad_descriptors += bad;
        counters_.errors += mac_error;
        counters_.frames += end_of_packet;
        counters_.bytes += bad ? 0 : length_bytes;
        slot = {.length_bytes = static_cast<std::uint16_t>(bad ? 0 : length_bytes),
                .end_of_packet = end_of_packet,
                .error = bad || mac_error};
        if (end_of_packet) describe(slot, word);
        return true;
    }
    void arm(std::uint32_t slot, mem::Iova buffer) noexcept {
        // Relaxed: the tail write behind publishes both. The word with DD must be clear before the NIC gets the slot.
        std::atomic_ref(slots_[slot].page_iova).store(buffer.raw, std::memory_order_relaxed);
        clear(slot);
    }
    void clear(std::uint32_t slot) noexcept { std::atomic_ref(slots_[slot].done).store(0, std::memory_order_relaxed); }

    std::span<RxDescriptor> slots_;
    Doorbell tail_;
    std::uint32_t next_ = 0;
    Counters counters_;
    static constexpr std::uint32_t no_hole = ~std::uint32_t{0};
    std::uint32_t last_hole_ = no_hole;  ///< where next_ stood when one was seen

private:
    static void describe(Finished& slot, const RxDone& word) noexcept {
        constexpr std::uint16_t vlan_mask = 0x0fff;
        if (word.get(RxDone::vlan) != 0) slot.vlan = static_cast<std::uint16_t>(word.get(RxDone::vlan_tag)) & vlan_mask;
        if (word.get(RxDone::l4_checked) != 0)
            slot.l4_checksum = word.get(RxDone::l4_error) != 0 ? Checksum::bad : Checksum::good;
    }
    /// The slot behind a gap is finished and the gap still is not, looked at in this order: the NIC did not write in
    /// ring order. Once for each gap.
    void note_hole() noexcept {
        if (next_ == last_hole_ || !done((next_ + 1) & mask()).get(RxDone::done) ||
            done(next_ & mask()).get(RxDone::done))
            return;
        last_hole_ = next_;
        ++counters_.out_of_order;
    }

    std::uint32_t buffer_bytes_;
};

}  // namespace vitrine::driver
