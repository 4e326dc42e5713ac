/// The receive path while the NIC writes into the guest's own buffers (docs/vrx.md, 5).

#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "tests/apps/direct_bench.hpp"

using namespace vitrine;
using Bench = test::DirectBench;

namespace {

std::vector<std::byte> bytes_of(std::size_t count, std::byte value) {
    return std::vector<std::byte>(count, value);
}

}  // namespace

TEST_CASE("VRX 5: the NIC writes a frame into the guest's buffer, and the device adds the header in front of it") {
    Bench bench;
    CHECK(bench.poll() == 0);
    CHECK(bench.path.wants_buffers());
    bench.post(3);
    CHECK(bench.poll() == 3);
    CHECK(bench.poll() == 0);
    bench.nic_writes(60, true, std::byte{7});
    CHECK(bench.poll() == 1);
    const auto frame = bench.take();
    REQUIRE(frame.has_value());
    CHECK(frame->bytes == bytes_of(60, std::byte{7}));
    CHECK_FALSE(bench.take().has_value());
    CHECK(bench.received.direct == 1);
    CHECK(bench.received.frames_from_nic == 1);
    CHECK(bench.received.bytes_from_nic == 60);
    CHECK(bench.counters.frames == 1);
}

TEST_CASE("VRX 5: a frame over several buffers is seen when it is whole, and none of it before") {
    Bench bench;
    bench.post(7);
    bench.poll();
    bench.nic_writes(2048, false, std::byte{1});
    bench.poll();
    CHECK_FALSE(bench.take().has_value());
    bench.nic_writes(100, true, std::byte{2});
    bench.poll();
    const auto frame = bench.take();
    REQUIRE(frame.has_value());
    CHECK(frame->buffers == 2);
    CHECK(frame->bytes.size() == 2148);
    CHECK(frame->bytes.front() == std::byte{1});
    CHECK(frame->bytes.back() == std::byte{2});
}

TEST_CASE("VRX 5: the buffer of a frame that failed comes back in its place, with a header alone") {
    Bench bench;
    bench.post(7);
    bench.poll();
    bench.nic_writes(60, true, std::byte{1});
    bench.nic_writes(2048, false, std::byte{2});
    bench.nic_writes(60, true, std::byte{2}, true);
    bench.nic_writes(60, true, std::byte{3});
    bench.poll();
    CHECK(bench.take()->bytes == bytes_of(60, std::byte{1}));
    for (unsigned i = 0; i < 2; ++i) {
        const auto empty = bench.take();
        CHECK(empty->bytes.empty());
        CHECK(empty->buffers == 1);
    }
    CHECK(bench.take()->bytes == bytes_of(60, std::byte{3}));
    CHECK(bench.received.drop_nic_error == 1);
    CHECK(bench.received.direct == 2);
    CHECK(bench.received.frames_from_nic == 3);
    CHECK(bench.counters.frames == 2);
}

TEST_CASE("VRX 5: a frame that takes all the buffers that a ring can have is given up, and the next one comes") {
    const auto gives_up = [](std::uint16_t entries, bool mergeable, unsigned parts) {
        Bench bench(entries, mergeable);
        for (unsigned part = 0; part < parts; ++part) {
            bench.post(entries);
            bench.poll();
            bench.nic_writes(part + 1 < parts ? 2048 : 10, part + 1 == parts, std::byte{4});
            bench.poll();
            while (const auto frame = bench.take()) CHECK(frame->bytes.empty());
        }
        bench.post(entries);
        bench.poll();
        bench.nic_writes(60, true, std::byte{5});
        bench.poll();
        CHECK(bench.take()->bytes == bytes_of(60, std::byte{5}));
        CHECK(bench.received.frames_from_nic == 2);
        return bench.received.drop_too_small;
    };
    CHECK(gives_up(16, true, 9) == 1);
    CHECK(gives_up(2, true, 3) == 1);
    CHECK(gives_up(8, false, 2) == 1);
}

TEST_CASE("VRX 5: buffers that the NIC did not fill are the ring's again when its queue stops, none twice") {
    Bench bench;
    bench.post(7);
    bench.poll();
    bench.nic_writes(60, true, std::byte{1});
    bench.poll();
    bench.nic_writes(61, true, std::byte{2});
    bench.nic_writes(2048, false, std::byte{3});
    bench.stop();
    CHECK(bench.take()->bytes == bytes_of(60, std::byte{1}));
    CHECK(bench.take()->bytes == bytes_of(61, std::byte{2}));
    CHECK_FALSE(bench.take().has_value());
    CHECK(bench.queue->used_index() == 2);

    // By copy now, into the next buffer in order.
    const auto frame = bytes_of(70, std::byte{4});
    const std::span<const std::byte> piece(frame);
    CHECK(bench.queue->deliver({&piece, 1}, {}) == virtio::Delivery::delivered);
    bench.queue->publish();
    CHECK(bench.take()->bytes == frame);
    CHECK(bench.counters.frames == bench.received.direct + 1);
}

TEST_CASE("VRX 5: a ring that breaks gets nothing more, and what the NIC still fills is dropped") {
    Bench bench;
    bench.post(3);
    bench.poll();
    bench.put(3, {.address = 64, .length_bytes = Bench::buffer_bytes, .flags = 2, .next = 0});
    bench.poll();
    CHECK(bench.queue->broken());
    bench.nic_writes(60, true, std::byte{1});
    bench.nic_writes(60, true, std::byte{1});
    bench.poll();
    CHECK_FALSE(bench.take().has_value());
    CHECK(bench.received.drop_ring_broken == 2);
    CHECK(bench.counters.ring_broken == 1);
    bench.stop();
    CHECK_FALSE(bench.take().has_value());
}

TEST_CASE("guest memory that is not mapped for the NIC is not given to it") {
    Bench bench;
    bench.memory.set_iova(mem::GuestPhys{test::GuestRam::guest_base}, {});
    bench.post(3);
    CHECK(bench.poll() == 0);
    CHECK_FALSE(bench.nic_has_room());
    CHECK_FALSE(bench.queue->broken());
}

TEST_CASE("VRX 5, model: whatever stops and starts, each frame comes once, in order, whole, or is counted as dropped") {
    std::mt19937 random(20261121);
    const auto below = [&](unsigned limit) { return random() % limit; };
    for (unsigned life = 0; life < 300; ++life) {
        Bench bench(static_cast<std::uint16_t>(2u << below(5)));
        std::deque<std::pair<std::byte, std::size_t>> sent;  // whole good frames, as the NIC finished them
        std::uint64_t finished = 0, got = 0, parts = 0;
        bool bad = false;
        std::size_t length = 0;
        const auto take_all = [&] {
            while (const auto frame = bench.take()) {
                if (frame->bytes.empty()) continue;
                // Frames that were lost on the way are skipped; none comes twice, and none in another order.
                const std::pair<std::byte, std::size_t> seen{frame->bytes.back(), frame->bytes.size()};
                while (!sent.empty() && sent.front() != seen) sent.pop_front();
                REQUIRE(!sent.empty());
                sent.pop_front();
                ++got;
                CHECK(std::ranges::all_of(frame->bytes, [&](std::byte one) { return one == seen.first; }));
            }
        };
        for (unsigned turn = 0; turn < 200; ++turn) {
            switch (below(8)) {
                case 0:
                    bench.post(1 + below(8));
                    break;
                case 1:
                case 2:
                    bench.poll();
                    break;
                case 3:
                    take_all();
                    break;
                case 4:  // the queue stops and starts, or the process dies and another one comes
                    if (below(4) != 0) break;
                    if (below(2) != 0) bench.stop();
                    parts = length = 0;
                    bad = false;
                    bench.start();
                    break;
                default: {
                    if (!bench.nic_has_room()) break;
                    const bool last = below(3) != 0 || parts == 7;
                    const std::uint32_t bytes = last ? 1 + below(2048) : 2048;
                    const bool error = last && below(10) == 0;
                    const auto filling = static_cast<std::byte>(finished % 251);
                    bench.nic_writes(bytes, last, filling, error);
                    bad |= error;
                    length += bytes;
                    ++parts;
                    if (!last) break;
                    if (!bad) sent.emplace_back(filling, length);
                    ++finished;
                    parts = length = 0;
                    bad = false;
                }
            }
        }
        bench.stop();
        take_all();
        CHECK(bench.driver.breach == "");
        CHECK(bench.received.frames_from_nic == bench.received.direct + bench.dropped());
        CHECK(bench.received.direct == bench.counters.frames);
        CHECK(got == bench.received.direct);
        CHECK(bench.counters.ring_broken == 0);
    }
}
