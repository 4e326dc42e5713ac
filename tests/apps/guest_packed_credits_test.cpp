/// What our own guest's driver for pages on packed rings gives back, and when (docs/vrx.md, 9.2).

#include <algorithm>
#include <array>
#include <atomic>
#include <poll.h>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/held_frames.hpp"
#include "tests/apps/guest_packed_pages_bench.hpp"

using namespace vitrine;
using namespace vitrine::guest;
using Bench = PackedPortBench;
using virtio::EventSuppression;
using virtio::PackedPosition;
using Returns = std::vector<unsigned>;

TEST_CASE("VRX 9.2: a credit returns four pages, and those that are left over go in one of the free slots") {
    Bench bench;  // k = 5: two slots are kept back
    bench.open();
    const auto frames = bench.lend(10);
    CHECK(bench.flush() == Returns(8, 0));
    for (unsigned index = 0; index < 3; ++index) bench.port.release(frames[index]);
    CHECK(bench.flush().empty());  // only the last two slots are free
    bench.port.release(frames[3]);
    CHECK(bench.flush() == Returns{4});
    CHECK(bench.device.lent() == 6);
    for (unsigned index = 4; index < 10; ++index) bench.port.release(frames[index]);
    CHECK(bench.flush() == Returns{4});
    CHECK(bench.device.lent() == 2);
    const auto more = bench.lend(1);
    CHECK(bench.flush() == Returns{});  // two pages for the last slot, and one more is held
    bench.port.release(more[0]);
    CHECK(bench.flush() == Returns{3});
    CHECK(bench.device.lent() == 0);
}

TEST_CASE("VRX 9.2: bare credits never take the slots that are kept back, unless nothing is held") {
    for (const auto& [frame_bytes, reserved] : {std::pair{2048, 1u}, {8192, 1u}, {8193, 2u}, {18'000, 3u}}) {
        Bench bench(PackedPagesPort::Config{.entries = 20, .most_frame_bytes = static_cast<std::size_t>(frame_bytes)});
        bench.open();
        CHECK(bench.device.credits() == 20);
        auto frames = bench.lend(3);
        bench.flush();
        CHECK(bench.device.credits() == 20 - reserved);
        for (unsigned count = 0; count < 5; ++count) frames.push_back(bench.lend(1)[0]);
        bench.flush();
        CHECK(bench.device.credits() == 20 - reserved);
        for (const LentFrame& frame : frames) bench.port.release(frame);
        bench.flush();
        CHECK(bench.device.credits() == 20);
        CHECK(bench.device.lent() == 8 - std::min(8u, 4 * reserved));  // the rest waits for a slot
    }
}

TEST_CASE("VRX 9.2: with the smallest ring, and at the held limit, device and driver never wait for each other") {
    for (const std::uint16_t entries : {2, 3, 4, 6, 7, 16}) {
        Bench bench(PackedPagesPort::Config{.entries = entries}, 2048, 9);
        bench.open();
        const std::uint32_t most_pages = bench.device.most_pages_of_frame();
        std::mt19937 random(entries);
        std::deque<std::pair<LentFrame, std::uint32_t>> kept;
        std::uint32_t received = 0;
        std::uint32_t sent = 0;
        for (unsigned turn = 0; sent < 2000; ++turn) {
            REQUIRE(turn < 100'000);
            while (bench.device.deliver(sent, 1 + (sent * 7) % most_pages)) ++sent;
            const auto frames = bench.port.receive();
            for (const LentFrame& frame : frames) kept.emplace_back(frame, received++);
            const bool all = frames.empty();  // who gets nothing keeps nothing
            while (!kept.empty() && (all || random() % 3 != 0)) {
                const auto [frame, number] = kept.front();
                kept.pop_front();
                bench.port.for_each_part(frame, [&](auto part) { CHECK(Bench::number_of(part) == number); });
                bench.port.release(frame);
            }
            bench.flush();
            if (all) REQUIRE(bench.device.credits() >= most_pages);
            if (all) REQUIRE(bench.device.lent() + most_pages <= 9);
        }
        CHECK(bench.port.violations().total() == 0);
    }
}

TEST_CASE("VRX 8, 9: device and driver on two threads, both sleeping when there is nothing: no frame lost, none torn") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        Bench bench(PackedPagesPort::Config{.entries = 9, .event_index = event_index}, 2048, 12);
        constexpr std::uint32_t frames = 30'000;
        bench.open();
        std::atomic<bool> slept_too_long{false};
        const auto wait = [&](int descriptor) {
            pollfd entry{descriptor, POLLIN, 0};
            if (::poll(&entry, 1, 20'000) != 1) slept_too_long = true;
        };
        std::thread device([&] {
            FakePackedDevice& ring = bench.device.ring;
            const auto full_fence = [] { std::atomic_thread_fence(std::memory_order_seq_cst); };
            for (std::uint32_t number = 0; number < frames && !slept_too_long;) {
                const PackedPosition before = ring.used;
                if (!bench.device.deliver(number, 1 + number % 3)) {
                    ring.wish(event_index ? EventSuppression::at_position : EventSuppression::enable, ring.available);
                    full_fence();
                    if (!bench.device.deliver(number, 1 + number % 3)) {
                        wait(bench.port.kick_descriptor());
                        ring.wish(EventSuppression::disable);
                        ring.kicked();
                        continue;
                    }
                    ring.wish(EventSuppression::disable);
                }
                ++number;
                ring.call_if_wanted(before);
            }
        });
        std::deque<LentFrame> held;
        std::uint32_t received = 0;
        std::uint32_t wrong = 0;
        while (received < frames && !slept_too_long && !bench.port.broken()) {
            const auto burst = bench.port.receive();
            for (const LentFrame& frame : burst) {
                bench.port.for_each_part(frame, [&](auto part) { wrong += Bench::number_of(part) != received; });
                ++received;
                held.push_back(frame);
            }
            while (held.size() > (burst.empty() ? 0 : received % 3)) {  // who sleeps holds nothing
                bench.port.release(held.front());
                held.pop_front();
            }
            bench.port.flush();
            if (!burst.empty()) continue;
            bench.port.want_calls(true);
            if (!bench.port.has_used()) wait(bench.port.call_descriptor());
            bench.port.drain_call();
            bench.port.want_calls(false);
        }
        device.join();
        CHECK_FALSE(slept_too_long);
        CHECK(wrong == 0);
        CHECK(received == frames);
        CHECK(bench.port.violations().total() == 0);
    }
}

TEST_CASE("frames are held and given back on packed rings as on split ones") {
    Bench bench;
    bench.open();
    HeldFrames<PackedPagesPort> held(2, 2048);
    for (unsigned number = 0; number < 5; ++number) {
        held.keep(bench.port, bench.lend(1)[0], std::nullopt);
        bench.flush();
        CHECK(bench.port.pages_held() == std::min(number + 1, 2u));
    }
    held.let_all_go();
    bench.flush();
    CHECK(bench.device.lent() == 0);
}
