/// A guest that rewrites its rings from another thread while the device walks them.

#include <atomic>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "tests/virtio/queue_bench.hpp"

using namespace vitrine;
using test::BenchOptions;
using test::GuestRam;
using test::QueueBench;
using virtio::Descriptor;

namespace {

constexpr std::uint16_t entries = 16;

/// Goes on until both ends of a race were seen, whichever thread the machine prefers; false ends the test.
bool again(int life, std::uint64_t good, std::uint64_t bad) {
    REQUIRE(life < 100'000'000);
    if (life % 64 == 0) std::this_thread::yield();
    return life < 20'000 || good == 0 || bad == 0;
}

/// Flips descriptors, indirect tables and headers between good and bad values until it goes out of scope. Available
/// entries stay good, so the ring lives longer than a moment.
class Mutator {
public:
    Mutator(QueueBench& bench, bool device_writes)
        : thread_([&bench, device_writes, this] { run(bench, device_writes); }) {}
    ~Mutator() {
        stop_ = true;
        thread_.join();
    }

private:
    void run(const QueueBench& bench, bool device_writes) {
        std::mt19937_64 random(7);
        const auto put = [&](std::uint64_t offset, std::uint64_t word) {
            std::atomic_ref(*reinterpret_cast<std::uint64_t*>(bench.ram.at(offset)))
                .store(word, std::memory_order_relaxed);
        };
        const std::uint64_t table = bench.data + 0x8'0000;
        const std::array<std::uint64_t, 6> addresses = {GuestRam::guest_base + bench.data,
                                                        GuestRam::guest_base + table,
                                                        GuestRam::guest_base + QueueBench::ram_bytes - 10,
                                                        0,
                                                        ~std::uint64_t{0},
                                                        GuestRam::guest_base + bench.data + 1};
        const std::array<std::uint32_t, 7> lengths = {0, 12, 16, 72, 1536, 0x10'0000, 0xffff'ffff};
        while (!stop_) {
            const std::uint64_t flags =
                (device_writes ? Descriptor::device_writes : 0u) ^ (random() % 64 == 0 ? random() % 8 : random() % 2);
            const std::uint64_t next = random() % 64 == 0 ? random() % 0x1'0000 : random() % entries;
            const std::uint64_t half = lengths[random() % lengths.size()] | flags << 32 | next << 48;
            const std::uint64_t where = (random() % 2 == 0 ? 0 : table) + 16 * (random() % entries);
            put(where, addresses[random() % addresses.size()]);
            put(where + 8, half);
            put(bench.data + 8 * (random() % 4), random() % 4 == 0 ? random() : 0);  // headers
        }
    }

    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

}  // namespace

TEST_CASE("a transmit chain that changes under the walk is a frame, a counted drop or a broken ring") {
    test::TransmitBench bench({.entries = entries});
    std::uint64_t frames = 0;
    std::uint64_t breaks = 0;
    const Mutator mutator(bench, false);
    for (std::uint16_t i = 0; i < entries; ++i) bench.driver.set_available(i, i);
    for (int life = 0; again(life, frames, breaks); ++life) {
        virtio::TransmitCounters counters;
        virtio::TransmitQueue queue(bench.memory, bench.ring(counters), 1518, virtio::TransmitQueue::Mode::send,
                                    counters);
        const std::uint16_t start = queue.used_index();
        bench.driver.set_available_index(static_cast<std::uint16_t>(start + entries));
        while (const auto frame = queue.next()) {
            std::uint64_t sum = 0;
            for (const auto& piece : frame->pieces) {
                const std::byte* const ram = bench.memory.regions()[0].host;
                REQUIRE(piece.host >= ram);
                REQUIRE(piece.host + piece.length_bytes <= ram + QueueBench::ram_bytes);
                sum += piece.length_bytes;
            }
            REQUIRE(sum == frame->length_bytes);
            REQUIRE(frame->length_bytes <= 1518);
            REQUIRE((frame->header.flags & virtio::NetHeader::needs_checksum) == 0);
            REQUIRE(frame->header.gso_type == 0);
        }
        frames += queue.in_flight();
        queue.complete_oldest(queue.in_flight());
        queue.publish();
        breaks += counters.ring_broken;
        const std::uint64_t given_back = counters.frames + counters.tx_bad_chain + counters.tx_bad_header +
                                         counters.tx_short + counters.tx_oversize + counters.tx_many_pieces;
        REQUIRE(given_back == static_cast<std::uint16_t>(queue.used_index() - start));
        REQUIRE((counters.ring_broken == 1 || given_back == entries));
    }
}

TEST_CASE("a receive chain that changes under the walk takes a frame, or breaks its ring") {
    test::ReceiveBench bench({.entries = entries});
    const auto frame = test::pattern(1514);
    const std::span<const std::byte> piece(frame);
    std::uint64_t delivered = 0;
    std::uint64_t breaks = 0;
    const Mutator mutator(bench, true);
    for (std::uint16_t i = 0; i < entries; ++i) bench.driver.set_available(i, i);
    for (int life = 0; again(life, delivered, breaks); ++life) {
        virtio::ReceiveCounters counters;
        virtio::ReceiveQueue queue(bench.memory, bench.ring(counters), true, counters);
        const std::uint16_t start = queue.used_index();
        bench.driver.set_available_index(static_cast<std::uint16_t>(start + entries));
        for (unsigned i = 0; i < entries; ++i) queue.deliver({&piece, 1}, {});
        queue.publish();
        REQUIRE(counters.frames + counters.rx_no_buffer_tries + counters.rx_oversize + counters.rx_broken_ring ==
                entries);
        REQUIRE(counters.elements == static_cast<std::uint16_t>(queue.used_index() - start));
        delivered += counters.frames;
        breaks += counters.ring_broken;
    }
}
