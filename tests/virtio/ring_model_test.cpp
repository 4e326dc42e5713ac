/// Driver and device take random turns over one ring, and everything that one side does must come out at the other.

#include <deque>
#include <random>

#include <doctest/doctest.h>

#include "tests/virtio/queue_bench.hpp"

using namespace vitrine;
using test::BenchOptions;
using test::ReceiveBench;
using test::TransmitBench;

namespace {

constexpr unsigned frames_in_all = 100'000;
constexpr std::uint32_t slot_bytes = 0x2000;  // buffers of one chain, reused in ring order

std::vector<BenchOptions> all_options() {
    std::vector<BenchOptions> all;
    for (std::uint16_t entries = 2; entries <= 256; entries = static_cast<std::uint16_t>(entries * 2))
        for (const bool event_index : {false, true})
            for (const bool indirect : {false, true})
                all.push_back({.entries = entries,
                               .start = static_cast<std::uint16_t>(0xff00 + entries),
                               .mergeable = true,
                               .indirect = indirect,
                               .event_index = event_index,
                               .most_frame_bytes = 1518,
                               .mode = virtio::TransmitQueue::Mode::send});
    return all;
}

/// A driver that sleeps until it is called, as drivers do, and looks again after it asked for that.
template <class Bench>
struct Sleeper {
    Bench& bench;
    bool asleep = false;

    bool awake() {
        if (asleep && bench.call.drain()) asleep = false;
        return !asleep;
    }
    void sleep(std::uint16_t seen) {
        bench.driver.set_no_interrupt(false);
        bench.driver.set_used_event(seen);
        asleep = bench.driver.used_index() == seen && bench.driver.outstanding() > 0;
    }
};

/// Cuts `total` bytes into at most `most` descriptors, empty ones among them.
std::vector<std::uint32_t> cut(std::mt19937& random, std::uint32_t total, std::size_t most) {
    std::vector<std::uint32_t> lengths;
    while (lengths.size() + 1 < most && random() % 3 != 0) {
        const auto part = static_cast<std::uint32_t>(random() % (total / 2 + 1));
        lengths.push_back(part);
        total -= part;
    }
    lengths.push_back(total);
    return lengths;
}

void receive_model(const BenchOptions& options, unsigned frames, std::uint32_t seed) {
    ReceiveBench bench(options);
    Sleeper<ReceiveBench> driver{bench};
    std::mt19937 random(seed);
    std::deque<std::vector<std::byte>> expected;
    std::uint64_t slot = 0;
    std::uint16_t seen = options.start;
    unsigned sent = 0;
    unsigned received = 0;
    unsigned idle = 0;
    while (received < frames) {
        REQUIRE(++idle < 10'000);  // a lost wake-up would stop everything
        if (random() % 2 == 0 && driver.awake()) {
            while (const auto frame = bench.driver.take_frame()) {
                REQUIRE(!expected.empty());
                REQUIRE(*frame == expected.front());
                seen = static_cast<std::uint16_t>(seen + bench.driver.last_header.buffers);
                expected.pop_front();
                ++received;
                idle = 0;
            }
            while (bench.driver.free_descriptors() > 0 && random() % 8 != 0) {
                const bool indirect = options.indirect && random() % 2 == 0;
                const std::size_t room =
                    indirect ? std::min<std::size_t>(options.entries, 32) : bench.driver.free_descriptors();
                bench.next_buffer = bench.data + slot++ % options.entries * slot_bytes;
                bench.post(cut(random, 200 + static_cast<std::uint32_t>(random() % 2000), room), indirect);
            }
            driver.sleep(seen);
        }
        for (unsigned burst = random() % 8; burst > 0 && sent < frames; --burst) {
            auto frame = test::pattern(14 + random() % 1500, sent);
            const auto outcome = bench.deliver(frame);
            REQUIRE(outcome != ReceiveBench::Outcome::broken);
            if (outcome == ReceiveBench::Outcome::delivered) {
                expected.push_back(std::move(frame));
                ++sent;
            } else if (outcome == ReceiveBench::Outcome::no_buffer) {
                driver.asleep = false;  // its timer: a driver that is out of buffers comes back by itself
            }
        }
        bench.queue.publish();
    }
    CHECK(bench.counters.frames == frames);
    CHECK(expected.empty());
}

void transmit_model(const BenchOptions& options, unsigned frames, std::uint32_t seed) {
    TransmitBench bench(options);
    Sleeper<TransmitBench> driver{bench};
    std::mt19937 random(seed);
    std::deque<std::vector<std::byte>> expected;
    std::uint64_t slot = 0;
    std::uint16_t seen = options.start;
    bool device_asleep = false;
    unsigned queued = 0;
    unsigned completed = 0;
    unsigned idle = 0;
    while (completed < frames) {
        REQUIRE(++idle < 10'000);
        if (random() % 2 == 0 && driver.awake()) {
            while (bench.driver.take_used()) {
                ++seen;
                ++completed;
                idle = 0;
            }
            const std::uint16_t before = bench.driver.posted();
            while (bench.driver.free_descriptors() > 0 && queued < frames && random() % 8 != 0) {
                const bool indirect = options.indirect && random() % 2 == 0;
                const std::size_t room =
                    indirect ? std::min<std::size_t>(options.entries, 32) : bench.driver.free_descriptors();
                auto frame = test::pattern(14 + random() % 1500, queued);
                bench.next_buffer = bench.data + slot++ % options.entries * slot_bytes;
                const auto total = static_cast<std::uint32_t>(frame.size() + sizeof(virtio::NetHeader));
                bench.send(frame, cut(random, total, std::min<std::size_t>(room, 32)), {}, indirect);
                expected.push_back(std::move(frame));
                ++queued;
            }
            if (device_asleep && bench.driver.posted() != before) {
                const bool kick = options.event_index ? virtio::passes_event(bench.driver.available_event(),
                                                                             bench.driver.posted(), before)
                                                      : bench.driver.used_flags() == 0;
                if (kick) device_asleep = false;
            }
            driver.sleep(seen);
        }
        if (device_asleep) continue;
        for (unsigned burst = random() % 8; burst > 0; --burst) {
            const auto frame = bench.queue.next();
            if (!frame) break;
            REQUIRE(!expected.empty());
            REQUIRE(bench.bytes(*frame) == expected.front());
            expected.pop_front();
            if (random() % 512 == 0) {  // a stop and a start: what was in flight comes again
                REQUIRE(bench.queue.in_flight() >= 1);
                bench.queue.complete_oldest(bench.queue.in_flight());
                bench.queue.roll_back();
            }
        }
        if (bench.queue.in_flight() > 0) bench.queue.complete_oldest(1 + random() % bench.queue.in_flight());
        bench.queue.publish();
        if (bench.queue.in_flight() == 0 && random() % 4 == 0) {
            bench.queue.want_kicks(true);
            device_asleep = !bench.queue.has_waiting();
            if (!device_asleep) bench.queue.want_kicks(false);
        }
    }
    CHECK(bench.counters.frames == frames);
    CHECK(expected.empty());
}

}  // namespace

TEST_CASE("receive model: driver and device interleaved, every ring size, both event modes, direct and indirect") {
    std::uint32_t seed = 1;
    const auto all = all_options();
    for (const BenchOptions& options : all) {
        CAPTURE(options.entries);
        CAPTURE(seed);
        receive_model(options, frames_in_all / static_cast<unsigned>(all.size()) / 2, seed++);
    }
}

TEST_CASE("transmit model: driver and device interleaved, every ring size, both event modes, direct and indirect") {
    std::uint32_t seed = 1000;
    const auto all = all_options();
    for (const BenchOptions& options : all) {
        CAPTURE(options.entries);
        CAPTURE(seed);
        transmit_model(options, frames_in_all / static_cast<unsigned>(all.size()) / 2, seed++);
    }
}
