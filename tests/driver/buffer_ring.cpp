#include "driver/buffer_ring.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

using namespace vitrine;
using driver::Finished;
using driver::RxDone;

namespace {

/// A NIC that owns [head, tail) and nothing else, and overwrites both words of a descriptor when it is done with it.
struct Bench {
    alignas(128) std::array<driver::RxDescriptor, 8> slots{};
    std::uint32_t tail = 0;
    std::uint32_t head = 0;
    driver::BufferRing rx{slots, driver::Doorbell(&tail), 2048};
    std::uint64_t next_buffer = 0x10'0000;
    std::vector<std::uint64_t> written;  ///< addresses, in the order of the NIC

    void arm(unsigned count) {
        for (; count != 0; --count, next_buffer += 2048) rx.arm(mem::Iova{next_buffer});
    }
    std::size_t posted() const { return (tail - head) % slots.size(); }
    void finish(std::uint64_t length_bytes, bool end_of_packet = true, bool error = false) {
        REQUIRE(posted() > 0);
        REQUIRE(slots[head].done == 0);
        written.push_back(slots[head].page_iova);
        slots[head] = {.page_iova = 0xdead'beef'dead'beef,
                       .done = RxDone{}
                                   .with(RxDone::done, 1)
                                   .with(RxDone::end_of_packet, end_of_packet)
                                   .with(RxDone::mac_error, error)
                                   .with(RxDone::length_bytes, length_bytes)
                                   .raw};
        head = static_cast<std::uint32_t>((head + 1) % slots.size());
    }
    std::vector<Finished> receive(std::size_t most = 16) {
        std::vector<Finished> finished(most);
        finished.resize(rx.receive(finished));
        return finished;
    }
};

}  // namespace

TEST_CASE("82599 7.1.9: buffers of others fill all slots but one, and the NIC hears of them by one tail write") {
    Bench bench;
    CHECK(bench.rx.room() == 7);
    bench.arm(7);
    CHECK(bench.rx.room() == 0);
    CHECK(bench.posted() == 0);
    bench.rx.flush();
    CHECK(bench.tail == 7);
    CHECK(bench.rx.armed() == 7);
}

TEST_CASE("buffers of others are finished in the order in which they were armed, around the ring") {
    Bench bench;
    std::vector<std::uint64_t> armed;
    for (unsigned turn = 0; turn < 40; ++turn) {
        const unsigned count = 1 + turn % 5;
        for (unsigned i = 0; i < count; ++i) armed.push_back(bench.next_buffer + 2048u * i);
        bench.arm(count);
        bench.rx.flush();
        for (unsigned i = 0; i < count; ++i) bench.finish(60 + i);
        const auto finished = bench.receive();
        REQUIRE(finished.size() == count);
        for (unsigned i = 0; i < count; ++i) CHECK(finished[i].length_bytes == 60 + i);
        CHECK(bench.receive().empty());
        CHECK(bench.rx.room() == 7);
    }
    CHECK(bench.written == armed);
    CHECK(bench.rx.counters().out_of_order == 0);
}

TEST_CASE("a slot that holds no buffer never looks finished, whatever was in it") {
    Bench bench;
    bench.arm(7);
    bench.rx.flush();
    for (unsigned i = 0; i < 7; ++i) bench.finish(60);
    CHECK(bench.receive(3).size() == 3);
    CHECK(bench.rx.backlog_at_least(4));
    CHECK_FALSE(bench.rx.backlog_at_least(5));
    CHECK(bench.receive().size() == 4);
    CHECK_FALSE(bench.rx.backlog_at_least(1));
    bench.arm(1);
    CHECK(bench.receive().empty());  // the NIC was not even told
    bench.rx.flush();
    CHECK(bench.receive().empty());
}

TEST_CASE("a length that a buffer of others cannot hold, and an error bit, are errors of that frame") {
    Bench bench;
    bench.arm(4);
    bench.rx.flush();
    bench.finish(2048);
    bench.finish(2049);
    bench.finish(0);
    bench.finish(60, true, true);
    const auto finished = bench.receive();
    REQUIRE(finished.size() == 4);
    CHECK_FALSE(finished[0].error);
    for (std::size_t i = 1; i < 4; ++i) CHECK(finished[i].error);
    CHECK(bench.rx.counters().bad_descriptors == 2);
    CHECK(bench.rx.counters().errors == 1);
    CHECK(bench.rx.counters().frames == 4);
}
