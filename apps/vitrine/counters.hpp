#pragma once

#include <array>
#include <cstdint>

#include "virtio/counters.hpp"

namespace vitrine::apps {

using virtio::CounterName;

/// From the NIC to the guest, for one queue pair. Written by the poll thread alone.
/// Conservation, over all pairs: frames_from_nic = frames of the receive rings + every drop named here +
/// neighbour_messages.
struct ReceivePathCounters {
    std::uint64_t frames_from_nic = 0;
    std::uint64_t bytes_from_nic = 0;
    std::uint64_t copied = 0;
    std::uint64_t lent = 0;              ///< handed to the guest as pages
    std::uint64_t direct = 0;            ///< that the NIC wrote into the guest's own buffers
    std::uint64_t drop_no_guest = 0;     ///< no front-end, or its ring does not run
    std::uint64_t drop_no_buffer = 0;    ///< the guest posts no buffers and the NIC's queue is half full
    std::uint64_t drop_held = 0;         ///< the guest holds all pages that it may, and the NIC's queue is half full
    std::uint64_t drop_too_small = 0;    ///< the guest's buffers can never hold the frame
    std::uint64_t drop_ring_broken = 0;  ///< the guest broke its ring
    std::uint64_t drop_nic_error = 0;    ///< error bits, impossible lengths, endless chains
    std::uint64_t drop_vf_down = 0;      ///< waiting here when the VF was reset or lost, or its queue got other buffers
    // With --tunnel, of frames on the wire:
    std::uint64_t neighbour_messages = 0;      ///< ARP or neighbour discovery that was ours to answer or to learn from
    std::uint64_t drop_not_tunnel = 0;         ///< neither these nor from the other end of the tunnel
    std::uint64_t drop_wrong_vni = 0;          ///< of another tunnel between the same ends
    std::uint64_t drop_outer_fragment = 0;     ///< fragments of outer packets are not put together
    std::uint64_t drop_outer_malformed = 0;    ///< lengths, IPv4 header checksum, nothing inside
    std::uint64_t drop_outer_checksum = 0;     ///< the outer UDP checksum is there, and wrong
    std::uint64_t drop_outer_unsupported = 0;  ///< GENEVE: version, control packet, critical options, not Ethernet

    static constexpr auto names = std::to_array<CounterName<ReceivePathCounters>>({
        {"frames_from_nic", &ReceivePathCounters::frames_from_nic},
        {"bytes_from_nic", &ReceivePathCounters::bytes_from_nic},
        {"copied", &ReceivePathCounters::copied},
        {"lent", &ReceivePathCounters::lent},
        {"direct", &ReceivePathCounters::direct},
        {"drop_no_guest", &ReceivePathCounters::drop_no_guest},
        {"drop_no_buffer", &ReceivePathCounters::drop_no_buffer},
        {"drop_held", &ReceivePathCounters::drop_held},
        {"drop_too_small", &ReceivePathCounters::drop_too_small},
        {"drop_ring_broken", &ReceivePathCounters::drop_ring_broken},
        {"drop_nic_error", &ReceivePathCounters::drop_nic_error},
        {"drop_vf_down", &ReceivePathCounters::drop_vf_down},
        {"neighbour_messages", &ReceivePathCounters::neighbour_messages},
        {"drop_not_tunnel", &ReceivePathCounters::drop_not_tunnel},
        {"drop_wrong_vni", &ReceivePathCounters::drop_wrong_vni},
        {"drop_outer_fragment", &ReceivePathCounters::drop_outer_fragment},
        {"drop_outer_malformed", &ReceivePathCounters::drop_outer_malformed},
        {"drop_outer_checksum", &ReceivePathCounters::drop_outer_checksum},
        {"drop_outer_unsupported", &ReceivePathCounters::drop_outer_unsupported},
    });
};

/// From the guest to the NIC, for one queue pair. Written by the poll thread alone.
/// Conservation, when nothing is in flight: frames of the transmit ring + repeated = frames_to_nic + drop_link_down +
/// drop_unresolved.
struct TransmitPathCounters {
    std::uint64_t frames_to_nic = 0;
    std::uint64_t bytes_to_nic = 0;
    std::uint64_t copied = 0;
    std::uint64_t zero_copy = 0;
    std::uint64_t drop_link_down = 0;   ///< no VF, or no link: drained, so that the guest does not hang
    std::uint64_t drop_unresolved = 0;  ///< --tunnel: nobody says where the next hop is
    std::uint64_t own_frames = 0;       ///< --tunnel: questions and answers of ours, beside frames_to_nic
    std::uint64_t lost_in_nic = 0;      ///< of frames_to_nic: in its queue when the VF went away, perhaps sent
    std::uint64_t repeated = 0;         ///< rolled back at a stop while the NIC held them: may go out twice

    static constexpr auto names = std::to_array<CounterName<TransmitPathCounters>>({
        {"frames_to_nic", &TransmitPathCounters::frames_to_nic},
        {"bytes_to_nic", &TransmitPathCounters::bytes_to_nic},
        {"copied", &TransmitPathCounters::copied},
        {"zero_copy", &TransmitPathCounters::zero_copy},
        {"drop_link_down", &TransmitPathCounters::drop_link_down},
        {"drop_unresolved", &TransmitPathCounters::drop_unresolved},
        {"own_frames", &TransmitPathCounters::own_frames},
        {"lost_in_nic", &TransmitPathCounters::lost_in_nic},
        {"repeated", &TransmitPathCounters::repeated},
    });
};

}  // namespace vitrine::apps
