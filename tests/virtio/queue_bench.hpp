#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "tests/support/guest_ring.hpp"
#include "virtio/receive_queue.hpp"
#include "virtio/transmit_queue.hpp"

namespace vitrine::test {

struct BenchOptions {
    std::uint16_t entries = 8;
    std::uint16_t start = 0;
    bool mergeable = true;
    bool indirect = true;
    bool event_index = true;
    std::uint32_t most_frame_bytes = 1518;
    virtio::TransmitQueue::Mode mode = virtio::TransmitQueue::Mode::send;
};

/// Guest RAM, a driver's ring at its start, and room for buffers behind `data`. What comes back is in `counters`.
struct QueueBench {
    static constexpr std::uint64_t data = 0x10'0000;
    static constexpr std::size_t ram_bytes = 0x40'0000;

    explicit QueueBench(const BenchOptions& wanted) : options(wanted), driver(ram, 0, wanted.entries, wanted.start) {
        ram.announce_to(memory, ram.whole());
    }
    template <class Counters>
    virtio::DeviceRing ring(Counters& counters) {
        return virtio::DeviceRing(memory, driver.where(memory),
                                  {.indirect = options.indirect, .event_index = options.event_index},
                                  {.kick = kick.get(), .call = call.get(), .error = error.get()}, counters);
    }

    BenchOptions options;
    GuestRam ram{ram_bytes};
    virtio::GuestMemory memory;
    GuestRing driver;
    mem::EventFd kick;
    mem::EventFd call;
    mem::EventFd error;
};

inline std::vector<std::byte> pattern(std::size_t bytes, unsigned seed = 1) {
    std::vector<std::byte> frame(bytes);
    for (std::size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
    return frame;
}

struct ReceiveBench : QueueBench {
    using Outcome = virtio::ReceiveQueue::Outcome;

    explicit ReceiveBench(const BenchOptions& wanted = {})
        : QueueBench(wanted), queue(memory, ring(counters), wanted.mergeable, counters) {}

    Outcome deliver(const std::vector<std::byte>& frame) {
        const std::span<const std::byte> piece(frame);
        return queue.deliver({&piece, 1}, {});
    }
    void post(std::vector<std::uint32_t> lengths, bool indirect = false) {
        std::vector<GuestRing::Buffer> buffers;
        for (const std::uint32_t length : lengths) {
            buffers.push_back({next_buffer, length});
            next_buffer += length;
        }
        driver.post(buffers, true, indirect);
    }

    virtio::ReceiveCounters counters;
    virtio::ReceiveQueue queue;
    std::uint64_t next_buffer = data;
};

struct TransmitBench : QueueBench {
    explicit TransmitBench(const BenchOptions& wanted = {})
        : QueueBench(wanted), queue(memory, ring(counters), wanted.most_frame_bytes, wanted.mode, counters) {}

    /// Writes header and frame one behind the other and queues them in descriptors of the given lengths; the last
    /// takes the rest.
    void send(const std::vector<std::byte>& frame, std::vector<std::uint32_t> lengths = {},
              const virtio::NetHeader& header = {}, bool indirect = false) {
        std::memcpy(ram.at(next_buffer), &header, sizeof(header));
        std::memcpy(ram.at(next_buffer + sizeof(header)), frame.data(), frame.size());
        const auto total = static_cast<std::uint32_t>(sizeof(header) + frame.size());
        const std::uint32_t first = std::accumulate(lengths.begin(), lengths.end(), 0u);
        REQUIRE(first <= total);
        if (first < total) lengths.push_back(total - first);
        std::vector<GuestRing::Buffer> buffers;
        for (const std::uint32_t length : lengths) {
            buffers.push_back({next_buffer, length});
            next_buffer += length;
        }
        driver.post(buffers, false, indirect);
    }
    static std::vector<std::byte> bytes(const virtio::TransmitQueue::Frame& frame) {
        std::vector<std::byte> all;
        for (const auto& piece : frame.pieces) all.insert(all.end(), piece.host, piece.host + piece.length_bytes);
        REQUIRE(all.size() == frame.length_bytes);
        return all;
    }
    /// Takes one frame all the way through.
    std::optional<std::vector<std::byte>> take() {
        const auto frame = queue.next();
        if (!frame) return std::nullopt;
        auto all = bytes(*frame);
        queue.complete_oldest(1);
        queue.publish();
        return all;
    }

    virtio::TransmitCounters counters;
    virtio::TransmitQueue queue;
    std::uint64_t next_buffer = data;
};

}  // namespace vitrine::test
