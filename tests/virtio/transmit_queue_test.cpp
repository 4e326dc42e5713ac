#include "virtio/transmit_queue.hpp"

#include <doctest/doctest.h>

#include "tests/virtio/queue_bench.hpp"

using namespace vitrine;
using test::pattern;
using test::TransmitBench;
using virtio::NetHeader;
using virtio::TransmitQueue;

TEST_CASE("VIRTIO 1.3, 5.1.6.2: what the driver sends comes without its header, and is given back with length 0") {
    TransmitBench bench;
    bench.send(pattern(60));
    CHECK(bench.take() == pattern(60));
    const auto used = bench.driver.take_used();
    REQUIRE(used);
    CHECK(used->written_bytes == 0);
    CHECK(!bench.take());
    CHECK(bench.counters.frames == 1);
    CHECK(bench.counters.bytes == 60);
}

TEST_CASE("VIRTIO 1.3, 2.7.4.2: the header may end anywhere in the chain") {
    for (const bool indirect : {false, true})
        for (const std::vector<std::uint32_t>& lengths : {std::vector<std::uint32_t>{12},
                                                          {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                                          {13},
                                                          {0, 11, 0, 1},
                                                          {5, 8},
                                                          {12, 20, 0, 28},
                                                          {72}}) {
            TransmitBench bench({.entries = 32});
            NetHeader header;
            header.header_bytes = 0x1234;  // a hint only
            bench.send(pattern(60), lengths, header, indirect);
            const auto frame = bench.queue.next();
            REQUIRE(frame);
            CHECK(bench.bytes(*frame) == pattern(60));
            CHECK(frame->header.header_bytes == 0x1234);
        }
}

TEST_CASE("pieces know where the NIC finds them, once their region is mapped for it") {
    TransmitBench bench;
    bench.send(pattern(60), {20, 20});
    auto frame = bench.queue.next();
    REQUIRE(frame);
    for (const auto& piece : frame->pieces) CHECK(piece.iova.raw == 0);
    bench.queue.roll_back();
    REQUIRE(bench.memory.set_iova(mem::GuestPhys{bench.ram.guest_base}, mem::Iova{0x5'0000'0000}));
    frame = bench.queue.next();
    REQUIRE(frame);
    REQUIRE(frame->pieces.size() == 3);
    CHECK(frame->pieces[0].iova.raw == 0x5'0000'0000 + bench.data + 12);
    CHECK(frame->pieces[1].iova.raw == 0x5'0000'0000 + bench.data + 20);
}

TEST_CASE("a piece over two regions becomes two") {
    TransmitBench bench;
    const std::uint64_t edge = bench.data + 40;
    bench.memory = {};
    bench.ram.announce_to(bench.memory, bench.ram.region(0, edge));
    bench.ram.announce_to(bench.memory, bench.ram.region(edge, 0x1000));
    TransmitQueue queue(bench.memory, bench.ring(bench.counters), 1518, TransmitQueue::Mode::send, bench.counters);
    bench.send(pattern(60));
    const auto frame = queue.next();
    REQUIRE(frame);
    CHECK(frame->pieces.size() == 2);
    CHECK(bench.bytes(*frame) == pattern(60));
}

TEST_CASE("several frames are in flight and complete in their order, dropped ones between them in theirs") {
    TransmitBench bench({.entries = 16});
    bench.send(pattern(60, 1));
    bench.send(pattern(5));  // short: dropped, but not before frame 1 is done
    bench.send(pattern(61, 2));
    bench.send(pattern(62, 3));
    CHECK(bench.queue.next()->length_bytes == 60);
    CHECK(bench.queue.next()->length_bytes == 61);
    CHECK(bench.queue.next()->length_bytes == 62);
    CHECK(!bench.queue.next());
    CHECK(bench.queue.in_flight() == 3);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 0);
    CHECK(bench.counters.tx_short == 0);  // counted when given back
    bench.queue.complete_oldest(1);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 2);
    CHECK(bench.counters.tx_short == 1);
    bench.queue.complete_oldest(2);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 4);
    while (bench.driver.take_used()) {
    }
    CHECK(bench.queue.in_flight() == 0);
    CHECK(bench.counters.frames == 3);
}

TEST_CASE("roll_back gives the same frames out again") {
    TransmitBench bench;
    for (unsigned i = 0; i < 4; ++i) bench.send(pattern(60 + i));
    REQUIRE(bench.take());
    CHECK(bench.queue.next()->length_bytes == 61);
    CHECK(bench.queue.next()->length_bytes == 62);
    bench.queue.roll_back();
    CHECK(bench.queue.in_flight() == 0);
    CHECK(bench.queue.used_index() == 1);
    for (unsigned i = 1; i < 4; ++i) CHECK(bench.take()->size() == 60 + i);
    CHECK(bench.counters.frames == 4);
}

TEST_CASE("what cannot be sent is given back and counted by reason") {
    TransmitBench bench({.entries = 128});
    std::uint64_t virtio::TransmitCounters::* reason = nullptr;
    SUBCASE("a chain shorter than the header") {
        reason = &virtio::TransmitCounters::tx_bad_header;
        bench.driver.post({{bench.data, 11}}, false);
    }
    SUBCASE("a chain of nothing") {
        reason = &virtio::TransmitCounters::tx_bad_header;
        bench.driver.post({{bench.data, 0}}, false);
    }
    SUBCASE("a chain of exactly the header") {  // CVE-2022-2132
        reason = &virtio::TransmitCounters::tx_short;
        bench.driver.post({{bench.data, 12}}, false);
    }
    SUBCASE("less than an Ethernet header") {
        reason = &virtio::TransmitCounters::tx_short;
        bench.send(pattern(13));
    }
    SUBCASE("more than the MTU allows") {
        reason = &virtio::TransmitCounters::tx_oversize;
        bench.send(pattern(1519));
    }
    SUBCASE("more than 32 bits hold") {
        reason = &virtio::TransmitCounters::tx_many_pieces;
        std::vector<test::GuestRing::Buffer> buffers(100, {0, test::QueueBench::ram_bytes});
        bench.driver.post(buffers, false);
    }
    SUBCASE("a length that leaves guest memory") {
        reason = &virtio::TransmitCounters::tx_bad_chain;
        bench.driver.post({{bench.data, 0xffff'ffff}}, false);
    }
    SUBCASE("an address outside guest memory") {
        reason = &virtio::TransmitCounters::tx_bad_chain;
        bench.driver.post({{bench.data, 100}, {1ull << 40, 100}}, false);
    }
    SUBCASE("a descriptor for the device to write") {
        reason = &virtio::TransmitCounters::tx_bad_chain;
        bench.driver.post({{bench.data, 100}}, true);
    }
    SUBCASE("too many pieces") {
        reason = &virtio::TransmitCounters::tx_many_pieces;
        bench.send(pattern(200), std::vector<std::uint32_t>(80, 2));
    }
    SUBCASE("65 pieces behind the header") {
        reason = &virtio::TransmitCounters::tx_many_pieces;
        std::vector<std::uint32_t> lengths(65, 1);
        lengths.insert(lengths.begin(), 12);
        bench.send(pattern(65), lengths);
    }
    SUBCASE("a checksum that nobody offered to fill in") {
        reason = &virtio::TransmitCounters::tx_bad_header;
        NetHeader header;
        header.flags = NetHeader::needs_checksum;
        header.checksum_start = 0xffff;
        bench.send(pattern(60), {}, header);
    }
    SUBCASE("segmentation that nobody offered") {
        reason = &virtio::TransmitCounters::tx_bad_header;
        NetHeader header;
        header.gso_type = 1;
        bench.send(pattern(60), {}, header);
    }
    CHECK(!bench.take());
    bench.queue.publish();
    const auto used = bench.driver.take_used();
    REQUIRE(used);
    CHECK(used->written_bytes == 0);
    CHECK(bench.counters.*reason == 1);
    CHECK(bench.counters.frames == 0);
    CHECK(!bench.queue.broken());
    bench.next_buffer = bench.data;
    bench.send(pattern(64));
    CHECK(bench.take() == pattern(64));
}

TEST_CASE("64 pieces behind a header of 12 are a frame") {
    TransmitBench bench({.entries = 128});
    std::vector<std::uint32_t> lengths(12, 1);
    lengths.insert(lengths.end(), 64, 2);
    bench.send(pattern(128), lengths);
    CHECK(bench.take() == pattern(128));
}

TEST_CASE("lengths at the edges pass") {
    TransmitBench bench;
    for (const std::size_t bytes : {14u, 59u, 60u, 1514u, 1518u}) {
        bench.send(pattern(bytes));
        CHECK(bench.take() == pattern(bytes));
    }
}

TEST_CASE("a guest that queues nothing but rubbish gets its turn cut") {
    TransmitBench bench({.entries = 256});
    for (int i = 0; i < 200; ++i) bench.send(pattern(5));
    bench.next_buffer = bench.data;
    CHECK(!bench.queue.next());
    CHECK(bench.counters.tx_short == 64);
    CHECK(bench.queue.has_waiting());
    for (int i = 0; i < 3; ++i) CHECK(!bench.queue.next());
    CHECK(bench.counters.tx_short == 200);
    CHECK(!bench.queue.has_waiting());
}

TEST_CASE("vhost-user, ring states: a disabled ring that is to be drained sends nothing and keeps nothing") {
    TransmitBench bench({.mode = TransmitQueue::Mode::discard});
    for (int i = 0; i < 5; ++i) bench.send(pattern(60));
    CHECK(!bench.queue.next());
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 5);
    CHECK(bench.counters.tx_disabled == 5);
    CHECK(bench.counters.frames == 0);
}

TEST_CASE("a broken transmit ring gives nothing out and still completes what it gave") {
    TransmitBench bench;
    bench.send(pattern(60));
    REQUIRE(bench.queue.next());
    bench.driver.set_available_index(100);
    CHECK(!bench.queue.next());
    CHECK(bench.queue.broken());
    CHECK(bench.error.drain());
    bench.queue.complete_oldest(1);
    bench.queue.publish();
    CHECK(bench.driver.used_index() == 1);
}
