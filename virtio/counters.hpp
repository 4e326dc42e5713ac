#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace vitrine::virtio {

/// A counter's name, for status and metrics, beside the member that holds it.
template <class Counters>
struct CounterName {
    std::string_view name;
    std::uint64_t Counters::* value;
};

/// What every ring counts. Written by the poll thread alone.
struct RingCounters {
    std::uint64_t kicks = 0;
    std::uint64_t calls = 0;             ///< interrupts sent
    std::uint64_t calls_suppressed = 0;  ///< publications that the driver did not want to hear of
    std::uint64_t calls_refused = 0;     ///< the front-end's eventfd took no more
    std::uint64_t ring_broken = 0;
};

/// One receive ring; survives the ring's stops and starts. Written by the poll thread alone.
struct ReceiveCounters : RingCounters {
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;               ///< of frames, without virtio_net_hdr
    std::uint64_t elements = 0;            ///< guest buffers used
    std::uint64_t rx_no_buffer_tries = 0;  ///< tries that found too few guest buffers; the caller may try again
    std::uint64_t rx_oversize = 0;         ///< frames that the buffers of this ring can never hold
    std::uint64_t rx_broken_ring = 0;      ///< frames for a ring that is broken
    std::uint64_t rx_held_tries = 0;       ///< tries while the guest held as many pages as it may; try again
    std::uint64_t rx_held_max = 0;         ///< most pages that the guest held at once
    std::uint64_t bad_returns = 0;         ///< returned pages that were not the guest's to return
    std::uint64_t rx_reclaimed = 0;        ///< pages that a guest held when it started its ring anew
    std::uint64_t rx_refused = 0;          ///< starts with a marker that could not be followed

    static constexpr auto names = std::to_array<CounterName<ReceiveCounters>>({
        {"frames", &ReceiveCounters::frames},
        {"bytes", &ReceiveCounters::bytes},
        {"elements", &ReceiveCounters::elements},
        {"rx_no_buffer_tries", &ReceiveCounters::rx_no_buffer_tries},
        {"rx_oversize", &ReceiveCounters::rx_oversize},
        {"rx_broken_ring", &ReceiveCounters::rx_broken_ring},
        {"rx_held_tries", &ReceiveCounters::rx_held_tries},
        {"rx_held_max", &ReceiveCounters::rx_held_max},
        {"bad_returns", &ReceiveCounters::bad_returns},
        {"rx_reclaimed", &ReceiveCounters::rx_reclaimed},
        {"rx_refused", &ReceiveCounters::rx_refused},
        {"kicks", &ReceiveCounters::kicks},
        {"calls", &ReceiveCounters::calls},
        {"calls_suppressed", &ReceiveCounters::calls_suppressed},
        {"calls_refused", &ReceiveCounters::calls_refused},
        {"ring_broken", &ReceiveCounters::ring_broken},
    });
};

/// One transmit ring; survives the ring's stops and starts. Written by the poll thread alone.
/// Every chain that the driver gets back is in `frames` or in exactly one of the drops.
struct TransmitCounters : RingCounters {
    std::uint64_t frames = 0;          ///< given out by next() and completed
    std::uint64_t bytes = 0;           ///< of those, without virtio_net_hdr
    std::uint64_t tx_bad_chain = 0;    ///< device-writable descriptor, or address outside guest memory
    std::uint64_t tx_bad_header = 0;   ///< shorter than a header, or asks for offloads that were not negotiated
    std::uint64_t tx_short = 0;        ///< less than an Ethernet header
    std::uint64_t tx_oversize = 0;     ///< longer than the MTU and a tagged Ethernet header
    std::uint64_t tx_many_pieces = 0;  ///< more pieces than a frame may have
    std::uint64_t tx_disabled = 0;     ///< drained from a ring that the front-end disabled

    static constexpr auto names = std::to_array<CounterName<TransmitCounters>>({
        {"frames", &TransmitCounters::frames},
        {"bytes", &TransmitCounters::bytes},
        {"tx_bad_chain", &TransmitCounters::tx_bad_chain},
        {"tx_bad_header", &TransmitCounters::tx_bad_header},
        {"tx_short", &TransmitCounters::tx_short},
        {"tx_oversize", &TransmitCounters::tx_oversize},
        {"tx_many_pieces", &TransmitCounters::tx_many_pieces},
        {"tx_disabled", &TransmitCounters::tx_disabled},
        {"kicks", &TransmitCounters::kicks},
        {"calls", &TransmitCounters::calls},
        {"calls_suppressed", &TransmitCounters::calls_suppressed},
        {"calls_refused", &TransmitCounters::calls_refused},
        {"ring_broken", &TransmitCounters::ring_broken},
    });
};

/// The vhost-user side of the device, over all its connections. Written by the control thread alone.
struct SessionCounters {
    std::uint64_t connections = 0;
    std::uint64_t messages = 0;
    std::uint64_t remaps = 0;              ///< changes of the memory table
    std::uint64_t shrinkable_regions = 0;  ///< guest memory that the front-end could truncate under us
    std::uint64_t memory_lost = 0;         ///< it did, and its connection was ended
    std::uint64_t rings_lost_memory = 0;   ///< rings stopped because their memory went away
    std::uint64_t base_differs = 0;        ///< SET_VRING_BASE was not used.idx; its packed halves differ
    std::uint64_t bad_flags = 0;           ///< from here on: messages refused, by reason
    std::uint64_t unknown_request = 0;
    std::uint64_t bad_size = 0;
    std::uint64_t bad_descriptors = 0;  ///< wrong number or kind of file descriptors
    std::uint64_t bad_ring = 0;         ///< ring index out of range
    std::uint64_t bad_value = 0;
    std::uint64_t bad_region = 0;
    std::uint64_t not_allowed = 0;    ///< not in this state, or not negotiated
    std::uint64_t system_error = 0;   ///< the kernel refused: a mapping, a descriptor
    std::uint64_t broken_stream = 0;  ///< a message that ended early or took too long

    static constexpr auto names = std::to_array<CounterName<SessionCounters>>({
        {"connections", &SessionCounters::connections},
        {"messages", &SessionCounters::messages},
        {"remaps", &SessionCounters::remaps},
        {"shrinkable_regions", &SessionCounters::shrinkable_regions},
        {"memory_lost", &SessionCounters::memory_lost},
        {"rings_lost_memory", &SessionCounters::rings_lost_memory},
        {"base_differs", &SessionCounters::base_differs},
        {"bad_flags", &SessionCounters::bad_flags},
        {"unknown_request", &SessionCounters::unknown_request},
        {"bad_size", &SessionCounters::bad_size},
        {"bad_descriptors", &SessionCounters::bad_descriptors},
        {"bad_ring", &SessionCounters::bad_ring},
        {"bad_value", &SessionCounters::bad_value},
        {"bad_region", &SessionCounters::bad_region},
        {"not_allowed", &SessionCounters::not_allowed},
        {"system_error", &SessionCounters::system_error},
        {"broken_stream", &SessionCounters::broken_stream},
    });
};

}  // namespace vitrine::virtio
