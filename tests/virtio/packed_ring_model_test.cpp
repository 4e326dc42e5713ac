/// Driver and device take random turns over one packed ring, and everything that one side does must come out at the
/// other. Rings of all sizes, which stop and start between turns.

#include <deque>
#include <optional>
#include <random>

#include <doctest/doctest.h>

#include "tests/virtio/packed_bench.hpp"

using namespace vitrine;
using test::PackedOptions;
using test::PackedReceiveBench;
using test::PackedTransmitBench;

namespace {

constexpr unsigned frames_of_each = 700;
constexpr std::uint32_t slot_bytes = 0x2000;  // buffers of one chain, reused in ring order

std::vector<PackedOptions> all_options() {
    std::vector<PackedOptions> all;
    for (const std::uint16_t entries : {2, 3, 4, 5, 7, 8, 11, 16, 100})
        for (const bool event_index : {false, true})
            for (const bool indirect : {false, true})
                all.push_back({.entries = entries,
                               .start = static_cast<std::uint16_t>(entries / 3 | (indirect ? 0x8000 : 0)),
                               .indirect = indirect,
                               .event_index = event_index});
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
    void sleep(bool at_position) {
        bench.driver.set_events(at_position ? 2 : 0, bench.driver.seen());
        asleep = !bench.driver.has_used() && bench.driver.outstanding() > 0;
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

void receive_model(const PackedOptions& options, std::uint32_t seed) {
    PackedReceiveBench bench(options);
    std::optional<virtio::PackedReceiveQueue> queue(std::move(bench.queue));
    Sleeper<PackedReceiveBench> driver{bench};
    std::mt19937 random(seed);
    std::deque<std::vector<std::byte>> expected;
    unsigned chains = 0, sent = 0, received = 0, idle = 0;
    while (received < frames_of_each) {
        REQUIRE(++idle < 10'000);  // a lost wake-up would stop everything
        if (random() % 2 == 0 && driver.awake()) {
            while (const auto frame = bench.driver.take_frame()) {
                REQUIRE(!expected.empty());
                REQUIRE(*frame == expected.front());
                expected.pop_front();
                ++received;
                idle = 0;
            }
            while (bench.driver.free_slots() > 0 && random() % 8 != 0) {
                const bool indirect = options.indirect && random() % 2 == 0;
                const std::size_t room = indirect ? 32 : bench.driver.free_slots();
                bench.next_buffer = bench.data + chains++ % options.entries * slot_bytes;
                bench.post(cut(random, 200 + static_cast<std::uint32_t>(random() % 2000), room), indirect);
            }
            driver.sleep(options.event_index && random() % 4 != 0);
        }
        for (unsigned burst = random() % 8; burst > 0 && sent < frames_of_each; --burst) {
            auto frame = test::pattern(14 + random() % 1500, sent);
            const std::span<const std::byte> piece(frame);
            const auto outcome = queue->deliver({&piece, 1}, {});
            REQUIRE(outcome != virtio::Delivery::broken);
            if (outcome == virtio::Delivery::delivered) {
                expected.push_back(std::move(frame));
                ++sent;
            } else if (outcome == virtio::Delivery::no_buffer) {
                driver.asleep = false;  // its timer: a driver that is out of buffers comes back by itself
            }
        }
        if (random() % 16 == 0) {  // a stop and a start
            queue->show();
            const auto base = virtio::PackedBase::of(queue->base());
            queue.emplace(bench.memory, bench.ring_at(base, bench.counters), true, bench.counters);
            queue->owe_call();
        }
        queue->publish();
    }
    CHECK(bench.counters.frames == frames_of_each);
    CHECK(expected.empty());
}

void transmit_model(const PackedOptions& options, std::uint32_t seed) {
    PackedTransmitBench bench(options);
    Sleeper<PackedTransmitBench> driver{bench};
    std::mt19937 random(seed);
    std::deque<std::vector<std::byte>> expected;
    bool device_asleep = false;
    unsigned queued = 0, completed = 0, idle = 0;
    while (completed < frames_of_each) {
        REQUIRE(++idle < 10'000);
        if (random() % 2 == 0 && driver.awake()) {
            while (bench.driver.take_used()) {
                ++completed;
                idle = 0;
            }
            const unsigned before = queued;
            while (bench.driver.free_slots() > 0 && queued < frames_of_each && random() % 8 != 0) {
                const bool indirect = options.indirect && random() % 2 == 0;
                const std::size_t room = indirect ? 32 : std::min<std::size_t>(bench.driver.free_slots(), 32);
                auto frame = test::pattern(14 + random() % 1500, queued);
                bench.next_buffer = bench.data + queued % options.entries * slot_bytes;
                const auto total = static_cast<std::uint32_t>(frame.size() + sizeof(virtio::NetHeader));
                bench.send(frame, cut(random, total, room), indirect);
                expected.push_back(std::move(frame));
                ++queued;
            }
            if (queued != before && bench.driver.device_wants_kick()) device_asleep = false;
            driver.sleep(options.event_index && random() % 4 != 0);
        }
        if (device_asleep) continue;
        for (unsigned burst = random() % 8; burst > 0; --burst) {
            const auto frame = bench.next();
            if (!frame) break;
            REQUIRE(!expected.empty());
            REQUIRE(*frame == expected.front());
            expected.pop_front();
            if (random() % 512 == 0) {  // a stop and a start with nothing in flight
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
    CHECK(bench.counters.frames == frames_of_each);
    CHECK(expected.empty());
}

}  // namespace

TEST_CASE("packed receive model: driver and device interleaved, any ring size, both event modes, direct and indirect") {
    std::uint32_t seed = 1;
    for (const PackedOptions& options : all_options()) {
        CAPTURE(options.entries);
        CAPTURE(seed);
        receive_model(options, seed++);
    }
}

TEST_CASE(
    "packed transmit model: driver and device interleaved, any ring size, both event modes, direct and indirect") {
    std::uint32_t seed = 1000;
    for (const PackedOptions& options : all_options()) {
        CAPTURE(options.entries);
        CAPTURE(seed);
        transmit_model(options, seed++);
    }
}
