#pragma once

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "driver/clock.hpp"
#include "driver/descriptors.hpp"
#include "driver/failure.hpp"
#include "driver/registers.hpp"
#include "mem/address.hpp"

/// Queues up and down, in the order that the data sheet asks for (82599 data sheet, 4.6.7 and 4.6.8).
/// Control thread only, while no poll thread touches the ring. Throws std::system_error.
namespace vitrine::driver {

/// Where the NIC finds a ring.
struct RingPlace {
    mem::Iova base;  ///< 128-byte aligned
    std::size_t slots;
};

namespace detail {

constexpr std::uint32_t low_half(mem::Iova address) {
    return static_cast<std::uint32_t>(address.raw);
}
constexpr std::uint32_t high_half(mem::Iova address) {
    return static_cast<std::uint32_t>(address.raw >> 32);
}
constexpr std::uint32_t ring_bytes(const RingPlace& ring) {
    return static_cast<std::uint32_t>(ring.slots * 16);
}

/// Both queue controls have their enable bit read back the true state. MISSING: the data sheet bounds no wait; the
/// other drivers give up after 10 ms.
template <class Control, RegisterSpace Space, Clock C>
void await_enable(Space& bar, C& clock, unsigned queue, bool enabled, const char* name) {
    const bool done = wait_until(clock, std::chrono::milliseconds(10), std::chrono::microseconds(100),
                                 [&] { return (read<Control>(bar, queue).get(Control::enable) != 0) == enabled; });
    if (!done)
        fail(ETIMEDOUT,
             std::string(name) + " queue " + std::to_string(queue) + " does not " + (enabled ? "start" : "stop"));
}

}  // namespace detail

/// Masks interrupts and stops all queues without waiting: the reset that follows does the rest.
template <RegisterSpace Space>
void quiesce(Space& bar) {
    write(bar, VTEIMC{}.with(VTEIMC::causes, 7));
    read<VTEICR>(bar);
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        write(bar, VFRXDCTL{}, queue);
        write(bar, VFTXDCTL{}.with(VFTXDCTL::flush, 1), queue);
    }
    read<VFSTATUS>(bar);  // flushes the posted writes
}

/// Gives every queue register a known value, for all slots of the map: a VF reset leaves most of them as they were.
template <RegisterSpace Space>
void write_queue_defaults(Space& bar) {
    write(bar, VFPSRTYPE{});
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        write(bar, VFRXDCTL{}, queue);
        write(bar, VFRDH{}, queue);
        write(bar, VFRDT{}, queue);
        write(bar, VFRSCCTL{}, queue);
        write(bar, VFSRRCTL{}.with(VFSRRCTL::packet_buffer_kib, 2).with(VFSRRCTL::header_buffer_64b, 4), queue);
        write(bar, VFDCA_RXCTRL{}.with(VFDCA_RXCTRL::descriptor_read_relaxed, 1), queue);
        write(bar, VFTXDCTL{}, queue);
        write(bar, VFTDH{}, queue);
        write(bar, VFTDT{}, queue);
        write(bar, VFTDWBAL{}, queue);
        write(bar, VFTDWBAH{}, queue);
        write(bar,
              VFDCA_TXCTRL{}.with(VFDCA_TXCTRL::descriptor_read_relaxed, 1).with(VFDCA_TXCTRL::data_read_relaxed, 1),
              queue);
    }
}

/// Starts a transmit queue with heads at 0. The tail may be written afterwards, not before. Transmit queues are started
/// before receive queues.
///
/// Thresholds: prefetch 32, host 1, and write-back 0, which reports each descriptor with RS at once: with more, the
/// last few frames before a silence would stay unreported (82599 data sheet, 7.2.3.4).
template <RegisterSpace Space, Clock C>
void start_transmit_queue(Space& bar, C& clock, unsigned queue, const RingPlace& ring) {
    write(bar, VFTXDCTL{}.with(VFTXDCTL::flush, 1), queue);
    write(bar, VFTDBAL{{detail::low_half(ring.base)}}, queue);
    write(bar, VFTDBAH{{detail::high_half(ring.base)}}, queue);
    write(bar, VFTDLEN{{detail::ring_bytes(ring)}}, queue);
    write(bar, VFTDWBAL{}, queue);
    write(bar, VFTDWBAH{}, queue);
    write(bar, VFTDH{}, queue);
    write(bar, VFTDT{}, queue);
    write(bar,
          VFTXDCTL{}.with(VFTXDCTL::prefetch_threshold, 32).with(VFTXDCTL::host_threshold, 1).with(VFTXDCTL::enable, 1),
          queue);
    detail::await_enable<VFTXDCTL>(bar, clock, queue, true, "TX");
}

/// Starts a receive queue with heads at 0; RxRing::fill() comes next. Frames without a buffer are dropped, not kept:
/// waiting ones would block the packet buffer that all functions share. Tags stay in the frame, unless `strip_vlan`.
template <RegisterSpace Space, Clock C>
void start_receive_queue(Space& bar, C& clock, unsigned queue, const RingPlace& ring, std::uint32_t buffer_kib,
                         bool strip_vlan = false) {
    write(bar, VFRXDCTL{}, queue);
    detail::await_enable<VFRXDCTL>(bar, clock, queue, false, "RX");
    write(bar, VFRDBAL{{detail::low_half(ring.base)}}, queue);
    write(bar, VFRDBAH{{detail::high_half(ring.base)}}, queue);
    write(bar, VFRDLEN{{detail::ring_bytes(ring)}}, queue);
    write(bar, VFRDH{}, queue);
    write(bar, VFRDT{}, queue);
    write(bar,
          VFSRRCTL{}
              .with(VFSRRCTL::packet_buffer_kib, buffer_kib)
              .with(VFSRRCTL::header_buffer_64b, 4)
              .with(VFSRRCTL::descriptor_type, VFSRRCTL::advanced_one_buffer)
              .with(VFSRRCTL::drop_enable, 1),
          queue);
    write(bar, VFRXDCTL{}.with(VFRXDCTL::enable, 1).with(VFRXDCTL::strip_vlan, strip_vlan), queue);
    detail::await_enable<VFRXDCTL>(bar, clock, queue, true, "RX");
}

/// Stops a receive queue; afterwards its pages are ours. Frames on their way through the NIC need 100 µs more than the
/// enable bit says (82599 data sheet, 4.6.7.1.2).
template <RegisterSpace Space, Clock C>
void stop_receive_queue(Space& bar, C& clock, unsigned queue) {
    write(bar, VFRXDCTL{}, queue);
    detail::await_enable<VFRXDCTL>(bar, clock, queue, false, "RX");
    clock.sleep_for(std::chrono::microseconds(100));
}

/// Waits until the NIC has sent what it was shown, at most `drain_limit`, and stops the queue. False when something was
/// left unsent, e.g. because the link is down.
template <RegisterSpace Space, Clock C>
bool stop_transmit_queue(Space& bar, C& clock, unsigned queue, std::chrono::nanoseconds drain_limit) {
    const bool drained = wait_until(clock, drain_limit, std::chrono::microseconds(100),
                                    [&] { return read<VFTDH>(bar, queue).raw == read<VFTDT>(bar, queue).raw; });
    write(bar, VFTXDCTL{}.with(VFTXDCTL::flush, 1), queue);  // last write-backs, and the enable bit off
    detail::await_enable<VFTXDCTL>(bar, clock, queue, false, "TX");
    return drained;
}

/// Whether all of them still are as they were started.
template <RegisterSpace Space>
bool queues_enabled(Space& bar, unsigned queues) {
    bool enabled = true;
    for (unsigned queue = 0; queue < queues; ++queue)
        enabled &= read<VFRXDCTL>(bar, queue).get(VFRXDCTL::enable) != 0 &&
                   read<VFTXDCTL>(bar, queue).get(VFTXDCTL::enable) != 0;
    return enabled;
}

/// Among how many queues (1, 2 or 4) the NIC spreads what it receives. The hash and the table are the PF's on 82599 and
/// X540.
template <RegisterSpace Space>
void spread_receive(Space& bar, unsigned queues) {
    const auto log2 = static_cast<std::uint32_t>(std::bit_width(queues) - 1);
    write(bar, VFPSRTYPE{}.with(VFPSRTYPE::rss_queues_log2, log2));
}

}  // namespace vitrine::driver
