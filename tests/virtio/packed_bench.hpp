#pragma once

#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "tests/support/packed_guest_ring.hpp"
#include "tests/virtio/queue_bench.hpp"

namespace vitrine::test {

struct PackedOptions {
    std::uint16_t entries = 7;
    std::uint16_t start = 0x8000;  ///< slot, and wrap counter in bit 15
    bool mergeable = true;
    bool indirect = true;
    bool event_index = true;
    virtio::TransmitQueue::Mode mode = virtio::TransmitQueue::Mode::send;
};

/// Guest RAM, a driver's packed ring at its start, and room for buffers behind `data`.
struct PackedBench {
    static constexpr std::uint64_t data = 0x10'0000;
    static constexpr std::size_t ram_bytes = 0x40'0000;

    explicit PackedBench(const PackedOptions& wanted) : options(wanted), driver(ram, 0, wanted.entries, wanted.start) {
        ram.announce_to(memory, ram.whole());
    }
    /// The device's side, where both sides begin.
    virtio::PackedDeviceRing ring(virtio::RingCounters& counters) {
        return ring_at(virtio::PackedBase::of(options.start | std::uint32_t{options.start} << 16), counters);
    }
    virtio::PackedDeviceRing ring_at(virtio::PackedBase base, virtio::RingCounters& counters) {
        return virtio::PackedDeviceRing(memory, driver.where(memory),
                                        {.indirect = options.indirect, .event_index = options.event_index},
                                        {.kick = kick.get(), .call = call.get(), .error = error.get()}, counters, base);
    }
    /// Both places of a base at what the driver has seen: the answer of a ring with nothing half done.
    std::uint32_t base_at_seen() const { return driver.seen() | std::uint32_t{driver.seen()} << 16; }

    /// Where `lengths` bytes lie one behind the other, from the next free byte on.
    std::vector<GuestRing::Buffer> buffers_of(const std::vector<std::uint32_t>& lengths) {
        std::vector<GuestRing::Buffer> buffers;
        for (const std::uint32_t length : lengths) {
            buffers.push_back({next_buffer, length});
            next_buffer += length;
        }
        return buffers;
    }

    PackedOptions options;
    GuestRam ram{ram_bytes};
    virtio::GuestMemory memory;
    PackedGuestRing driver;
    mem::EventFd kick;
    mem::EventFd call;
    mem::EventFd error;
    std::uint64_t next_buffer = data;
};

struct PackedReceiveBench : PackedBench {
    using Outcome = virtio::Delivery;

    explicit PackedReceiveBench(const PackedOptions& wanted = {})
        : PackedBench(wanted), queue(memory, ring(counters), wanted.mergeable, counters) {}

    void post(const std::vector<std::uint32_t>& lengths, bool indirect = false) {
        driver.post(buffers_of(lengths), true, indirect);
    }
    Outcome deliver(const std::vector<std::byte>& frame) {
        const std::span<const std::byte> piece(frame);
        return queue.deliver({&piece, 1}, {});
    }
    /// One frame all the way to the driver.
    void pass(std::size_t bytes, unsigned seed) {
        const auto frame = pattern(bytes, seed);
        REQUIRE(deliver(frame) == Outcome::delivered);
        queue.publish();
        REQUIRE(driver.take_frame() == frame);
    }

    virtio::ReceiveCounters counters;
    virtio::PackedReceiveQueue queue;
};

struct PackedTransmitBench : PackedBench {
    explicit PackedTransmitBench(const PackedOptions& wanted = {})
        : PackedBench(wanted), queue(memory, ring(counters), 1518, wanted.mode, counters) {}

    /// As TransmitBench::send().
    void send(const std::vector<std::byte>& frame, std::vector<std::uint32_t> lengths = {}, bool indirect = false) {
        const virtio::NetHeader header{};
        std::memcpy(ram.at(next_buffer), &header, sizeof(header));
        std::memcpy(ram.at(next_buffer + sizeof(header)), frame.data(), frame.size());
        const auto total = static_cast<std::uint32_t>(sizeof(header) + frame.size());
        const std::uint32_t first = std::accumulate(lengths.begin(), lengths.end(), 0u);
        REQUIRE(first <= total);
        if (first < total) lengths.push_back(total - first);
        driver.post(buffers_of(lengths), false, indirect);
    }
    /// The next frame's bytes; it stays in flight.
    std::optional<std::vector<std::byte>> next() {
        const auto frame = queue.next();
        if (!frame) return std::nullopt;
        return TransmitBench::bytes(*frame);
    }
    void complete(std::size_t frames) {
        queue.complete_oldest(frames);
        queue.publish();
    }

    virtio::TransmitCounters counters;
    virtio::PackedTransmitQueue queue;
};

}  // namespace vitrine::test
