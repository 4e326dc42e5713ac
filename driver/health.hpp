#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>

#include "driver/registers.hpp"
#include "driver/rx_ring.hpp"
#include "driver/statistics.hpp"
#include "driver/tx_ring.hpp"

namespace vitrine::driver {

/// What is wrong with a data path, seen from outside of it.
enum class Trouble : std::size_t {
    queue_stopped,   ///< a queue that we enabled reads back disabled: a reset behind our back, or the PF stopped it
    tx_stuck,        ///< frames wait in a transmit queue and none is finished
    rx_stalled,      ///< the NIC counts frames, or uses descriptors up, and the ring gives none
    rx_surplus,      ///< the rings give more frames or bytes than the NIC counts
    bad_descriptor,  ///< a length that no buffer holds
    rx_error,        ///< frames with error bits, which no PF lets through
    out_of_order,    ///< a descriptor was written before the one in front of it
};
inline constexpr std::array trouble_names{"queue_stopped",  "tx_stuck", "rx_stalled",  "rx_surplus",
                                          "bad_descriptor", "rx_error", "out_of_order"};
using Troubles = std::bitset<trouble_names.size()>;

/// Only a reset of the VF helps against these; what the others show has been dealt with frame by frame.
inline constexpr Troubles troubles_to_reset{0b111};

constexpr std::size_t index_of(Trouble trouble) {
    return static_cast<std::size_t>(trouble);
}

/// How far the rings are. Taken while the poll thread stands still, and before the NIC's counters are read, so that
/// these are never behind.
struct RingProgress {
    struct Transmit {
        std::uint32_t finished = 0;  ///< wraps
        bool waiting = false;        ///< frames are in flight
    };
    struct Receive {
        std::uint32_t position = 0;  ///< of the descriptor that is to be finished next; wraps
        bool backlog = false;        ///< it is finished: it is we who are slow
        bool used_up = false;        ///< the NIC's head is not there any more: see compare_heads()
    };
    RxRing::Counters received{};  ///< of all queues
    std::array<Receive, queue_slots> receive{};
    std::array<Transmit, queue_slots> transmit{};
};

/// Heads run ahead of write-backs and are no sign of one (82599 data sheet, 7.1.7); one that stays ahead is.
template <RegisterSpace Space>
void compare_heads(Space& bar, RingProgress& progress, unsigned queues, std::size_t slots) {
    for (unsigned queue = 0; queue < queues; ++queue) {
        RingProgress::Receive& receive = progress.receive[queue];
        receive.used_up = !receive.backlog && read<VFRDH>(bar, queue).raw != receive.position % slots;
    }
}

/// Looks at a running data path once a second and says what is wrong with it. A standstill is called so at the third
/// look in a row that sees it, so within four seconds (of traffic, for receive: silence proves nothing).
///
/// MISSING: whether VFGPRC and VFGORC count frames that found no descriptor. If they do, a NIC that gives back more
/// than it counts is noticed later; nothing else depends on it.
class Health {
public:
    static constexpr unsigned looks_until_standstill = 3;

    /// The queues have been started.
    void begin(const RingProgress& now, const Statistics& counted) {
        *this = Health{};
        first_ = last_ = now;
        first_counted_ = last_counted_ = counted;
    }

    Troubles look(const RingProgress& now, const Statistics& counted, bool queues_enabled) {
        constexpr std::uint64_t crc_bytes = 4;
        Troubles troubles;
        const auto say = [&](Trouble trouble, bool there) { troubles[index_of(trouble)] = there; };
        const auto since = [](auto counter, const auto& new_one, const auto& old_one) {
            return new_one.*counter - old_one.*counter;
        };
        using Rx = RxRing::Counters;
        say(Trouble::queue_stopped, !queues_enabled);

        bool stuck = false;
        for (std::size_t queue = 0; queue < now.transmit.size(); ++queue) {
            const auto &tx = now.transmit[queue], &before = last_.transmit[queue];
            const bool moves = !tx.waiting || !before.waiting || tx.finished != before.finished;
            tx_looks_[queue] = moves ? 0 : tx_looks_[queue] + 1;
            stuck |= tx_looks_[queue] >= looks_until_standstill;
        }
        say(Trouble::tx_stuck, stuck);

        bool backlog = false, stalled = false;
        for (std::size_t queue = 0; queue < now.receive.size(); ++queue) {
            const auto &rx = now.receive[queue], &before = last_.receive[queue];
            backlog |= rx.backlog;
            used_up_looks_[queue] = rx.used_up && rx.position == before.position ? used_up_looks_[queue] + 1 : 0;
            stalled |= used_up_looks_[queue] >= looks_until_standstill;
        }
        if (since(&Rx::frames, now.received, last_.received) != 0 || backlog)
            rx_looks_ = 0;
        else
            rx_looks_ += since(&Statistics::rx_frames, counted, last_counted_) != 0;
        say(Trouble::rx_stalled, stalled || rx_looks_ >= looks_until_standstill);

        const std::uint64_t frames = since(&Rx::frames, now.received, first_.received);
        const std::uint64_t octets = since(&Rx::bytes, now.received, first_.received) + frames * crc_bytes;
        const bool surplus = frames > since(&Statistics::rx_frames, counted, first_counted_) ||
                             octets > since(&Statistics::rx_octets, counted, first_counted_);
        say(Trouble::rx_surplus, surplus);
        say(Trouble::bad_descriptor, since(&Rx::bad_descriptors, now.received, last_.received) != 0);
        say(Trouble::rx_error, since(&Rx::errors, now.received, last_.received) != 0);
        say(Trouble::out_of_order, since(&Rx::out_of_order, now.received, last_.received) != 0);

        last_ = now;
        last_counted_ = counted;
        if (surplus) {  // said once
            first_ = now;
            first_counted_ = counted;
        }
        return troubles;
    }

private:
    RingProgress first_{}, last_{};
    Statistics first_counted_{}, last_counted_{};
    std::array<unsigned, queue_slots> tx_looks_{};  // in a row that saw no progress
    std::array<unsigned, queue_slots> used_up_looks_{};
    unsigned rx_looks_ = 0;
};

}  // namespace vitrine::driver
