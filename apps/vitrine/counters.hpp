#pragma once

#include <array>
#include <cstdint>

#include "virtio/counters.hpp"

namespace vitrine::apps {

using virtio::CounterName;

/// From the NIC to the guest, for one queue pair. Written by the poll thread alone.
/// Conservation, over all pairs: frames_from_nic = frames of the receive rings + every drop named here.
struct ReceivePathCounters {
    std::uint64_t frames_from_nic = 0;
    std::uint64_t bytes_from_nic = 0;
    std::uint64_t copied = 0;
    std::uint64_t lent = 0;              ///< handed to the guest as pages
    std::uint64_t drop_no_guest = 0;     ///< no front-end, or its ring does not run
    std::uint64_t drop_no_buffer = 0;    ///< the guest posts no buffers and the NIC's queue is half full
    std::uint64_t drop_held = 0;         ///< the guest holds all pages that it may, and the NIC's queue is half full
    std::uint64_t drop_too_small = 0;    ///< the guest's buffers can never hold the frame
    std::uint64_t drop_ring_broken = 0;  ///< the guest broke its ring
    std::uint64_t drop_nic_error = 0;    ///< error bits, impossible lengths, endless chains
    std::uint64_t drop_vf_down = 0;      ///< waiting here when the VF was reset or lost

    static constexpr auto names = std::to_array<CounterName<ReceivePathCounters>>({
        {"frames_from_nic", &ReceivePathCounters::frames_from_nic},
        {"bytes_from_nic", &ReceivePathCounters::bytes_from_nic},
        {"copied", &ReceivePathCounters::copied},
        {"lent", &ReceivePathCounters::lent},
        {"drop_no_guest", &ReceivePathCounters::drop_no_guest},
        {"drop_no_buffer", &ReceivePathCounters::drop_no_buffer},
        {"drop_held", &ReceivePathCounters::drop_held},
        {"drop_too_small", &ReceivePathCounters::drop_too_small},
        {"drop_ring_broken", &ReceivePathCounters::drop_ring_broken},
        {"drop_nic_error", &ReceivePathCounters::drop_nic_error},
        {"drop_vf_down", &ReceivePathCounters::drop_vf_down},
    });
};

/// From the guest to the NIC, for one queue pair. Written by the poll thread alone.
/// Conservation, when nothing is in flight: frames of the transmit ring + repeated = frames_to_nic + drop_link_down.
struct TransmitPathCounters {
    std::uint64_t frames_to_nic = 0;
    std::uint64_t bytes_to_nic = 0;
    std::uint64_t copied = 0;
    std::uint64_t zero_copy = 0;
    std::uint64_t drop_link_down = 0;  ///< no VF, or no link: drained, so that the guest does not hang
    std::uint64_t lost_in_nic = 0;     ///< of frames_to_nic: in its queue when the VF went away, perhaps sent
    std::uint64_t repeated = 0;        ///< rolled back at a stop while the NIC held them: may go out twice

    static constexpr auto names = std::to_array<CounterName<TransmitPathCounters>>({
        {"frames_to_nic", &TransmitPathCounters::frames_to_nic},
        {"bytes_to_nic", &TransmitPathCounters::bytes_to_nic},
        {"copied", &TransmitPathCounters::copied},
        {"zero_copy", &TransmitPathCounters::zero_copy},
        {"drop_link_down", &TransmitPathCounters::drop_link_down},
        {"lost_in_nic", &TransmitPathCounters::lost_in_nic},
        {"repeated", &TransmitPathCounters::repeated},
    });
};

}  // namespace vitrine::apps
