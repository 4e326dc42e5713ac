#include "virtio/receive_queue.hpp"

#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/virtio/queue_bench.hpp"

using namespace vitrine;
using test::pattern;
using test::ReceiveBench;
using Outcome = virtio::ReceiveQueue::Outcome;

TEST_CASE("VIRTIO 1.3, 5.1.6.4: a frame in one buffer has a header that says so") {
    ReceiveBench bench;
    bench.post({1536});
    const auto frame = pattern(60);
    CHECK(bench.deliver(frame) == Outcome::delivered);
    CHECK(!bench.driver.take_frame());  // seen only when published
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == frame);
    CHECK(bench.driver.last_header.buffers == 1);
    CHECK(bench.driver.last_header.flags == 0);
    CHECK(bench.counters.frames == 1);
    CHECK(bench.counters.bytes == 60);
}

TEST_CASE("a prefetch takes nothing, however much it is asked for") {
    ReceiveBench bench;
    bench.queue.prefetch(1);  // nothing waits
    bench.post({1536});
    bench.queue.prefetch(100);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 0);
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(60));
}

TEST_CASE("a frame fills as many mergeable buffers as it takes, all but the last to the brim") {
    ReceiveBench bench({.entries = 16});
    for (int i = 0; i < 8; ++i) bench.post({1536});
    const auto frame = pattern(9014);
    CHECK(bench.deliver(frame) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == frame);
    CHECK(bench.driver.last_header.buffers == 6);
    CHECK(bench.counters.elements == 6);
    CHECK(bench.driver.outstanding() == 2);
}

TEST_CASE("buffers that end exactly with the frame are enough") {
    ReceiveBench bench;
    bench.post({72});
    bench.post({100});
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    CHECK(bench.deliver(pattern(89)) == Outcome::no_buffer);
    CHECK(bench.deliver(pattern(88)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame()->size() == 60);
    CHECK(bench.driver.take_frame()->size() == 88);
}

TEST_CASE("a frame in pieces arrives as one") {
    ReceiveBench bench;
    bench.post({1536});
    const auto frame = pattern(3000);
    bench.post({1536});
    const std::array<std::span<const std::byte>, 4> pieces = {std::span(frame).first(1), std::span(frame).subspan(1, 0),
                                                              std::span(frame).subspan(1, 2047),
                                                              std::span(frame).subspan(2048)};
    CHECK(bench.queue.deliver(pieces, {}) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == frame);
}

TEST_CASE("too few buffers use none, and the next frame finds them all") {
    ReceiveBench bench;
    for (int i = 0; i < 3; ++i) bench.post({200});
    CHECK(bench.deliver(pattern(1000)) == Outcome::no_buffer);
    CHECK(bench.counters.rx_no_buffer_tries == 1);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 0);
    CHECK(bench.deliver(pattern(500, 3)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(500, 3));
}

TEST_CASE("a frame that the whole ring cannot hold is dropped, and smaller ones go on") {
    ReceiveBench bench({.entries = 4});
    for (int i = 0; i < 4; ++i) bench.post({100});
    CHECK(bench.deliver(pattern(389)) == Outcome::dropped);
    CHECK(bench.counters.rx_oversize == 1);
    CHECK(bench.deliver(pattern(388)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame()->size() == 388);
}

TEST_CASE("VIRTIO 1.3, 5.1.6.3.2: without mergeable buffers a frame fits its chain or is dropped") {
    ReceiveBench bench({.mergeable = false});
    bench.post({12, 1000, 518});
    bench.post({1530});
    CHECK(bench.deliver(pattern(1519)) == Outcome::dropped);
    CHECK(bench.deliver(pattern(1518)) == Outcome::delivered);
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    CHECK(bench.deliver(pattern(60)) == Outcome::no_buffer);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(1518));
    CHECK(bench.driver.last_header.buffers == 1);
    CHECK(bench.driver.take_frame() == pattern(60));
}

TEST_CASE("a header may be spread over descriptors, empty ones between") {  // CVE-2022-2132
    ReceiveBench bench({.entries = 32});
    bench.post({1, 1, 0, 1, 2, 3, 0, 4, 100});
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(60));
}

TEST_CASE("chains of empty descriptors are read no further than a frame may need, and the frame is dropped") {
    ReceiveBench bench({.entries = 4096});
    std::vector<std::uint32_t> lengths(1024, 0);
    lengths.push_back(1536);
    bench.post(lengths);
    CHECK(bench.deliver(pattern(60)) == Outcome::dropped);
    CHECK(bench.counters.rx_oversize == 1);
    ReceiveBench just_right({.entries = 4096});
    lengths.erase(lengths.begin());
    just_right.post(lengths);
    CHECK(just_right.deliver(pattern(60)) == Outcome::delivered);
}

TEST_CASE("an interrupt that the front-end's eventfd does not take is counted, and the frame is there all the same") {
    ReceiveBench bench;
    const std::uint64_t full = ~std::uint64_t{0} - 1;
    REQUIRE(::write(bench.call.get(), &full, sizeof(full)) == sizeof(full));
    bench.post({1536});
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.counters.calls == 0);
    CHECK(bench.counters.calls_refused == 1);
    CHECK(bench.driver.take_frame() == pattern(60));
}

TEST_CASE("a chain of exactly the header takes the header, and the frame goes behind it") {
    ReceiveBench bench;
    bench.post({12});
    bench.post({1536});
    CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
    bench.queue.publish();
    CHECK(bench.driver.take_frame() == pattern(60));
    CHECK(bench.driver.last_header.buffers == 2);
}

TEST_CASE("a buffer over two regions is written in both, one that ends beside them breaks the ring") {
    test::BenchOptions options;
    ReceiveBench bench(options);
    const std::uint64_t edge = 0x20'0000;
    bench.memory = {};
    bench.ram.announce_to(bench.memory, bench.ram.region(0, edge));
    SUBCASE("regions side by side") {
        bench.ram.announce_to(bench.memory, bench.ram.region(edge, 0x1000));
        virtio::ReceiveQueue queue(bench.memory, bench.ring(bench.counters), true, bench.counters);
        for (const std::uint64_t start : {edge - 1, edge - 12, edge - 13, edge - 71, edge - 72, edge}) {
            bench.driver.post({{start, 72}}, true);
            const auto frame = pattern(60, static_cast<unsigned>(start));
            const std::span<const std::byte> piece(frame);
            CHECK(queue.deliver({&piece, 1}, {}) == Outcome::delivered);
            queue.publish();
            CHECK(bench.driver.take_frame() == frame);
        }
    }
    SUBCASE("a hole behind the first") {
        bench.ram.announce_to(bench.memory, bench.ram.region(edge, 0x1000, 0x1000));
        virtio::ReceiveQueue queue(bench.memory, bench.ring(bench.counters), true, bench.counters);
        bench.driver.post({{edge - 72, 72}}, true);
        bench.driver.post({{edge - 71, 72}}, true);
        const auto frame = pattern(60);
        const std::span<const std::byte> piece(frame);
        CHECK(queue.deliver({&piece, 1}, {}) == Outcome::delivered);
        CHECK(queue.deliver({&piece, 1}, {}) == Outcome::broken);
        CHECK(bench.counters.ring_broken == 1);
        CHECK(bench.counters.rx_broken_ring == 1);
        CHECK(bench.error.drain());
    }
}

TEST_CASE("an empty descriptor with a bad address is no access") {  // CVE-2020-10725
    ReceiveBench bench;
    for (const std::size_t place : {0u, 1u, 2u}) {
        std::vector<test::GuestRing::Buffer> buffers = {{bench.data, 40}, {bench.data + 40, 60}};
        buffers.insert(buffers.begin() + static_cast<std::ptrdiff_t>(place), {0xffff'0000'0000, 0});
        bench.driver.post(buffers, true);
        CHECK(bench.deliver(pattern(60)) == Outcome::delivered);
        bench.queue.publish();
        bench.driver.take_used();
    }
    CHECK(!bench.queue.broken());
}

TEST_CASE("buffers that no driver posts break the ring") {
    ReceiveBench bench;
    SUBCASE("read-only") {
        bench.driver.post({{bench.data, 1536}}, false);
    }
    SUBCASE("outside guest memory") {
        bench.driver.post({{1ull << 40, 1536}}, true);
    }
    SUBCASE("shorter than a header") {
        bench.post({11});
    }
    SUBCASE("of no bytes") {
        bench.post({0});
    }
    SUBCASE("at the end of the address space") {
        bench.driver.post({{0ull - test::GuestRam::guest_base - 16, 1536}}, true);
    }
    bench.queue.prefetch(1);  // believes nothing either
    CHECK(bench.deliver(pattern(60)) == Outcome::broken);
    CHECK(bench.deliver(pattern(60)) == Outcome::broken);
    CHECK(bench.counters.rx_broken_ring == 2);
    CHECK(bench.counters.ring_broken == 1);
    CHECK(!bench.queue.has_waiting());
}

TEST_CASE("a frame in too many pieces of guest memory is dropped") {
    ReceiveBench bench({.entries = 256});
    for (std::uint16_t i = 0; i < 50; ++i) bench.post(std::vector<std::uint32_t>(24, 1), true);
    CHECK(bench.deliver(pattern(1100)) == Outcome::dropped);
    CHECK(bench.deliver(pattern(900)) == Outcome::delivered);
}

TEST_CASE("every ring size runs over the wrap of its 16-bit indices") {
    for (std::uint16_t entries = 2; entries <= 256; entries = static_cast<std::uint16_t>(entries * 2)) {
        ReceiveBench bench({.entries = entries, .start = static_cast<std::uint16_t>(65'536 - entries - 3)});
        for (unsigned i = 0; i < 4u * entries; ++i) {
            bench.next_buffer = bench.data;
            bench.post({1536});
            REQUIRE(bench.deliver(pattern(64, i)) == Outcome::delivered);
            bench.queue.publish();
            REQUIRE(bench.driver.take_frame() == pattern(64, i));
        }
    }
}

TEST_CASE("a frame that waits for more buffers hears of the next one") {
    ReceiveBench bench;
    for (int i = 0; i < 3; ++i) bench.post({200});
    CHECK(bench.deliver(pattern(700)) == Outcome::no_buffer);
    bench.queue.want_kicks(true);
    const std::uint16_t before = bench.driver.posted();
    bench.post({200});
    CHECK(virtio::passes_event(bench.driver.available_event(), bench.driver.posted(), before));
    CHECK(bench.deliver(pattern(700)) == Outcome::delivered);
}

TEST_CASE("has_waiting tells a ring that is served from one whose pair is unused") {
    ReceiveBench bench;
    CHECK(!bench.queue.has_waiting());
    bench.post({1536});
    CHECK(bench.queue.has_waiting());
}
