#include "driver/rx_ring.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

using namespace vitrine;
using driver::Packet;
using driver::RxDone;
using mem::Holder;

namespace {

constexpr std::size_t page_bytes = 2048;
constexpr std::uint64_t pool_iova = 0x10'0000;

/// A receive ring with a NIC that owns [head, tail) and nothing else, fills buffers in ring order, and overwrites both
/// words of a descriptor when it is done with it.
struct RxBench {
    std::vector<std::byte> memory;
    mem::PagePool pool;
    alignas(128) std::array<driver::RxDescriptor, 8> slots;
    std::uint32_t tail = 0;
    std::uint32_t head = 0;
    driver::RxRing rx;

    explicit RxBench(std::size_t pages = 32)
        : memory(pages * page_bytes),
          pool(memory, mem::Iova{pool_iova}, page_bytes),
          slots(rubbish()),
          rx(slots, driver::Doorbell(&tail), pool) {}

    static std::array<driver::RxDescriptor, 8> rubbish() {
        std::array<driver::RxDescriptor, 8> result;
        result.fill({.page_iova = 0x5a5a, .done = ~0ull});
        return result;
    }

    std::size_t posted() const { return (tail - head) % slots.size(); }

    /// Writes one descriptor back. The buffer must be a page that the pool says is the NIC's.
    void finish(RxDone done, std::byte filling = std::byte{0}) {
        REQUIRE(posted() > 0);
        driver::RxDescriptor& slot = slots[head];
        REQUIRE(slot.page_iova >= pool_iova);  // an unarmed slot is a DMA to address 0
        const std::uint64_t offset = slot.page_iova - pool_iova;
        REQUIRE(offset % page_bytes == 0);
        REQUIRE(offset < memory.size());
        REQUIRE(pool.holder(mem::PageId{static_cast<std::uint32_t>(offset / page_bytes)}) == Holder::nic);
        REQUIRE(slot.done == 0);
        const auto length = std::min<std::uint64_t>(done.get(RxDone::length_bytes), page_bytes);
        std::fill_n(memory.begin() + static_cast<std::ptrdiff_t>(offset), length, filling);
        slot = {.page_iova = 0xdead'beef'dead'beef, .done = done.raw};
        head = static_cast<std::uint32_t>((head + 1) % slots.size());
    }
    void finish(std::uint64_t length_bytes, bool end_of_packet = true, std::byte filling = std::byte{0}) {
        finish(RxDone{}
                   .with(RxDone::done, 1)
                   .with(RxDone::length_bytes, length_bytes)
                   .with(RxDone::end_of_packet, end_of_packet),
               filling);
    }
    std::vector<Packet> receive(std::size_t most = 16) {
        std::vector<Packet> packets(most);
        packets.resize(rx.receive(packets));
        return packets;
    }
    std::size_t held(Holder holder) { return pool.audit().held[static_cast<std::size_t>(holder)]; }
};

}  // namespace

TEST_CASE("82599 7.1.9: a full ring keeps one slot free, since tail == head means empty") {
    RxBench bench;
    bench.rx.fill();
    CHECK(bench.tail == 7);
    CHECK(bench.posted() == 7);
    CHECK(bench.held(Holder::nic) == 7);
}

TEST_CASE("nothing is received before the NIC is done, whatever was in the memory") {
    RxBench bench;
    CHECK(bench.receive().empty());
    bench.rx.fill();
    CHECK(bench.receive().empty());
    CHECK(bench.tail == 7);
}

TEST_CASE("a burst is received in order, each slot is armed again, and the tail moves once past it") {
    RxBench bench;
    bench.rx.fill();
    for (unsigned i = 0; i < 3; ++i) bench.finish(64 + i, true, std::byte(i));
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 3);
    for (unsigned i = 0; i < 3; ++i) {
        CHECK(packets[i].length_bytes == 64 + i);
        CHECK(packets[i].end_of_packet);
        CHECK_FALSE(packets[i].error);
        CHECK(bench.pool.bytes(packets[i].page)[5] == std::byte(i));
        CHECK(bench.pool.holder(packets[i].page) == Holder::device);
    }
    CHECK(bench.tail == 2);
    CHECK(bench.posted() == 7);
    CHECK(bench.held(Holder::nic) == 7);
}

TEST_CASE("the ring goes round many times and no page is lost or in two hands") {
    RxBench bench;
    bench.rx.fill();
    std::uint64_t received = 0;
    for (unsigned round = 0; round < 1000; ++round) {
        const unsigned frames = round % 8;
        for (unsigned i = 0; i < frames; ++i) bench.finish(60 + (received + i) % 1400);
        for (const Packet& packet : bench.receive()) {
            CHECK(packet.length_bytes == 60 + received % 1400);
            ++received;
            bench.pool.give(packet.page);
        }
        REQUIRE(bench.posted() == 7);
    }
    CHECK(bench.pool.audit().free_list_agrees);
    CHECK(bench.held(Holder::nic) == 7);
    CHECK(bench.held(Holder::free) == 32 - 7);
}

TEST_CASE("a frame over several descriptors comes as several packets, the last with end_of_packet") {
    RxBench bench;
    bench.rx.fill();
    bench.finish(2048, false);
    bench.finish(2048, false);
    bench.finish(104, true);
    bench.finish(60, true);
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 4);
    CHECK_FALSE(packets[0].end_of_packet);
    CHECK_FALSE(packets[1].end_of_packet);
    CHECK(packets[2].end_of_packet);
    CHECK(packets[2].length_bytes == 104);
    CHECK(packets[3].end_of_packet);
}

TEST_CASE("82599 7.1.6.2: error bits of a descriptor that does not end a frame mean nothing") {
    RxBench bench;
    bench.rx.fill();
    const RxDone with_error = RxDone{}.with(RxDone::done, 1).with(RxDone::length_bytes, 100).with(RxDone::mac_error, 1);
    bench.finish(with_error);
    bench.finish(with_error.with(RxDone::end_of_packet, 1));
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 2);
    CHECK_FALSE(packets[0].error);
    CHECK(packets[1].error);
}

TEST_CASE("82599 erratum 66: wrong checksum flags do not make a frame bad") {
    RxBench bench;
    bench.rx.fill();
    bench.finish(RxDone{}
                     .with(RxDone::done, 1)
                     .with(RxDone::end_of_packet, 1)
                     .with(RxDone::length_bytes, 100)
                     .with(RxDone::ip_error, 1)
                     .with(RxDone::l4_error, 1));
    CHECK_FALSE(bench.receive().at(0).error);
}

TEST_CASE("a descriptor that claims more than the buffer, or nothing, is counted and comes as an error") {
    RxBench bench;
    bench.rx.fill();
    bench.finish(2049);
    bench.finish(0);
    bench.finish(0xffff, false);
    bench.finish(2048);
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 4);
    for (unsigned i = 0; i < 3; ++i) {
        CHECK(packets[i].error);
        CHECK(packets[i].length_bytes == 0);
    }
    CHECK_FALSE(packets[3].error);
    CHECK(bench.rx.counters().bad_descriptors == 3);
}

TEST_CASE("an empty pool stops the burst and loses nothing") {
    RxBench bench(9);  // 7 in the ring, 2 to spare
    bench.rx.fill();
    for (unsigned i = 0; i < 4; ++i) bench.finish(64 + i);
    const auto first = bench.receive();
    REQUIRE(first.size() == 2);
    CHECK(bench.rx.counters().pool_empty == 1);
    CHECK(bench.tail == 1);
    CHECK(bench.receive().empty());
    CHECK(bench.tail == 1);

    bench.pool.give(first[0].page);
    const auto second = bench.receive();
    REQUIRE(second.size() == 1);
    CHECK(second[0].length_bytes == 66);
}

TEST_CASE("an empty pool is no shortage while the NIC has nothing") {
    RxBench bench(7);
    bench.rx.fill();
    CHECK(bench.receive().empty());
    CHECK(bench.rx.counters().pool_empty == 0);
}

TEST_CASE("a small buffer of packets leaves the rest for the next call") {
    RxBench bench;
    bench.rx.fill();
    for (unsigned i = 0; i < 5; ++i) bench.finish(64 + i);
    CHECK(bench.receive(2).size() == 2);
    CHECK(bench.receive(2)[0].length_bytes == 66);
    CHECK(bench.rx.counters().pool_empty == 0);
}

TEST_CASE("the backlog is how many descriptors the NIC is ahead of us") {
    RxBench bench;
    bench.rx.fill();
    CHECK_FALSE(bench.rx.backlog_at_least(1));
    for (unsigned i = 0; i < 5; ++i) bench.finish(64);
    CHECK(bench.rx.backlog_at_least(5));
    CHECK_FALSE(bench.rx.backlog_at_least(6));
    CHECK_FALSE(bench.rx.backlog_at_least(8));
    bench.receive();
    CHECK_FALSE(bench.rx.backlog_at_least(1));
}

TEST_CASE("a ring that cannot be filled is a named error") {
    RxBench bench(6);
    try {
        bench.rx.fill();
        FAIL("no error");
    } catch (const std::system_error& error) {
        CHECK(error.code().value() == ENOMEM);
        CHECK(std::string(error.what()).find("7 packet pages needed, 6 free") != std::string::npos);
    }
    CHECK(bench.held(Holder::nic) == 0);
}

TEST_CASE("release gives all pages back, says what was lost, and the ring can start over") {
    RxBench bench;
    bench.rx.fill();
    for (unsigned i = 0; i < 5; ++i) bench.finish(64);
    for (const Packet& packet : bench.receive()) bench.pool.give(packet.page);
    bench.finish(2048, false);
    bench.finish(64, true);
    bench.finish(64, true);
    CHECK(bench.rx.release() == 2);
    CHECK(bench.held(Holder::free) == 32);
    CHECK(bench.receive().empty());
    CHECK(bench.rx.release() == 0);

    bench.head = 0;
    bench.rx.fill();
    bench.finish(77);
    CHECK(bench.receive().at(0).length_bytes == 77);
}

TEST_CASE("a page of 16 KiB is offered as a buffer of 10 KiB, one of 2 KiB whole") {
    CHECK(driver::packet_buffer_kib(2048) == 2);
    CHECK(driver::packet_buffer_kib(16384) == 10);
}

TEST_CASE("a descriptor that is finished before the one in front of it is counted once, and both arrive in order") {
    RxBench bench;
    bench.rx.fill();
    const driver::RxDescriptor first = bench.slots[0];
    bench.finish(64);
    bench.finish(65);
    const driver::RxDescriptor first_done = bench.slots[0];
    bench.slots[0] = first;  // its write-back is still on its way
    CHECK(bench.receive().empty());
    CHECK(bench.receive().empty());
    CHECK(bench.rx.counters().out_of_order == 1);
    bench.slots[0] = first_done;
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 2);
    CHECK(packets[0].length_bytes == 64);
    CHECK(packets[1].length_bytes == 65);
    CHECK(bench.receive().empty());
    CHECK(bench.rx.counters().out_of_order == 1);
    CHECK(bench.rx.counters().frames == 2);
    CHECK(bench.rx.counters().bytes == 129);
}

TEST_CASE("what the NIC says of checksum and tag comes with the end of the frame") {
    RxBench bench;
    bench.rx.fill();
    const RxDone plain = RxDone{}.with(RxDone::done, 1).with(RxDone::end_of_packet, 1).with(RxDone::length_bytes, 60);
    bench.finish(plain);
    bench.finish(plain.with(RxDone::l4_checked, 1));
    bench.finish(plain.with(RxDone::l4_checked, 1).with(RxDone::l4_error, 1));
    bench.finish(plain.with(RxDone::l4_error, 1));  // no meaning without the bit that says it was looked at
    bench.finish(plain.with(RxDone::vlan, 1).with(RxDone::vlan_tag, 0xe007));
    bench.finish(plain.with(RxDone::vlan_tag, 7));
    const auto packets = bench.receive();
    REQUIRE(packets.size() == 6);
    CHECK(packets[0].l4_checksum == driver::Checksum::unknown);
    CHECK(packets[1].l4_checksum == driver::Checksum::good);
    CHECK(packets[2].l4_checksum == driver::Checksum::bad);
    CHECK(packets[3].l4_checksum == driver::Checksum::unknown);
    CHECK(packets[4].vlan == 7);
    CHECK(packets[5].vlan == 0);
}
