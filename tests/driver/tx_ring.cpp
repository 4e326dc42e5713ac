#include "driver/tx_ring.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <doctest/doctest.h>

#include "driver/registers.hpp"
#include "mem/file_descriptor.hpp"

using namespace vitrine;
using namespace vitrine::driver;

namespace {

struct SentFrame {
    std::vector<Fragment> fragments;
    bool reported;  // RS on its last descriptor
};

/// A transmit ring with a NIC that reads all up to the tail at once, holds each frame against the data sheet, and
/// writes back when told to: all 16 bytes, and only descriptors with RS.
template <std::size_t slots_count>
struct TxBench {
    alignas(128) std::array<TxDescriptor, slots_count> slots{};
    std::uint32_t tail = 0;
    std::uint32_t head = 0;
    bool has_context = false;
    std::deque<std::size_t> to_report;  // slots with RS that were read and not written back
    unsigned frames_since_report = 0;
    TxRing tx{slots, Doorbell(&tail)};

    /// Everything between head and tail, checked.
    std::vector<SentFrame> transmit() {
        std::vector<SentFrame> frames;
        REQUIRE(tail < slots_count);
        while (head != tail) {
            REQUIRE(head < slots_count);
            TxDescriptor& slot = slots[head];
            const TxData first{{slot.high}};
            REQUIRE(first.get(TxData::advanced) == 1);
            if (first.get(TxData::type) == TxContext::context_type) {
                REQUIRE(TxContextHeaders{{slot.low}}.get(TxContextHeaders::mac_header_bytes) == 14);
                REQUIRE(first.get(TxData::report_status) == 0);
                REQUIRE(first.get(TxData::end_of_packet) == 0);
                has_context = true;
                step();
                REQUIRE(head != tail);  // the descriptor before the tail must not be a context
                continue;
            }
            frames.push_back(read_frame(first));
        }
        CHECK((frames.empty() || frames.back().reported));  // an idle tail completes
        return frames;
    }

    SentFrame read_frame(TxData first) {
        SentFrame frame{};
        REQUIRE(has_context);
        REQUIRE(first.get(TxData::check_context) == 1);
        std::uint64_t bytes = 0;
        for (bool more = true; more;) {
            REQUIRE(head != tail);  // whole frames only
            const TxData data{{slots[head].high}};
            REQUIRE(data.get(TxData::type) == TxData::data_type);
            REQUIRE(data.get(TxData::advanced) == 1);
            REQUIRE(data.get(TxData::insert_crc) == 1);
            REQUIRE(data.get(TxData::done) == 0);
            REQUIRE(data.get(TxData::buffer_bytes) > 0);
            REQUIRE(slots[head].low != 0);
            more = data.get(TxData::end_of_packet) == 0;
            REQUIRE_FALSE((more && data.get(TxData::report_status)));  // RS without EOP
            bytes += data.get(TxData::buffer_bytes);
            frame.fragments.push_back(
                {mem::Iova{slots[head].low}, static_cast<std::uint32_t>(data.get(TxData::buffer_bytes))});
            frame.reported = data.get(TxData::report_status) != 0;
            if (frame.reported) to_report.push_back(head);
            step();
        }
        REQUIRE(frame.fragments.size() <= most_tx_fragments);
        REQUIRE(first.get(TxData::payload_bytes) == bytes);
        frames_since_report = frame.reported ? 0 : frames_since_report + 1;
        REQUIRE(frames_since_report < most_frames_without_report);
        return frame;
    }

    void write_back(std::size_t reports) {
        for (; reports > 0 && !to_report.empty(); --reports, to_report.pop_front())
            slots[to_report.front()] = {.low = 0xdead'beef'dead'beef, .high = TxData::done.mask | 0xffff'0000};
    }
    std::vector<std::uint64_t> reclaim(std::size_t most = 4096) {
        std::vector<std::uint64_t> cookies(most);
        cookies.resize(tx.reclaim(cookies));
        return cookies;
    }
    void step() { head = static_cast<std::uint32_t>((head + 1) % slots_count); }
};

const std::array<Fragment, 1> small{{{mem::Iova{0x1000}, 60}}};

}  // namespace

TEST_CASE("82599 7.2.3.2.4: a frame carries CRC insertion, CC and its length, behind a context") {
    TxBench<64> bench;
    const std::array<Fragment, 2> frame{{{mem::Iova{0x1000}, 14}, {mem::Iova{0x7'0000'0123}, 1486}}};
    CHECK(bench.tx.send(frame, 42) == Sent::queued);
    CHECK(bench.tail == 0);  // not before flush
    bench.tx.flush();
    CHECK(bench.tail == 3);
    const auto sent = bench.transmit();
    REQUIRE(sent.size() == 1);
    CHECK(sent[0].fragments[1].address.raw == 0x7'0000'0123);
    CHECK(sent[0].fragments[1].length_bytes == 1486);
}

TEST_CASE("82599 7.2.3.2.3: a tag for every frame stands in the context, and each frame asks for it") {
    alignas(128) std::array<TxDescriptor, 64> slots{};
    std::uint32_t tail = 0;
    TxRing tx(slots, Doorbell(&tail), 7);
    tx.send(small, 1);
    tx.send(small, 2);
    CHECK(TxContextHeaders{{slots[0].low}}.get(TxContextHeaders::vlan_tag) == 7);
    CHECK(TxContextHeaders{{slots[0].low}}.get(TxContextHeaders::mac_header_bytes) == 14);
    CHECK(TxData{{slots[1].high}}.get(TxData::insert_vlan) == 1);
    CHECK(TxData{{slots[2].high}}.get(TxData::insert_vlan) == 1);
    TxRing plain(slots, Doorbell(&tail));
    plain.send(small, 3);
    CHECK(TxContextHeaders{{slots[0].low}}.get(TxContextHeaders::vlan_tag) == 0);
    CHECK(TxData{{slots[1].high}}.get(TxData::insert_vlan) == 0);
}

TEST_CASE("one frame and then silence completes") {
    TxBench<64> bench;
    bench.tx.send(small, 7);
    bench.tx.flush();
    bench.transmit();
    CHECK(bench.reclaim().empty());
    bench.write_back(1);
    CHECK(bench.reclaim() == std::vector<std::uint64_t>{7});
    CHECK(bench.tx.in_flight() == 0);
}

TEST_CASE("RS is on every 16th frame and the last before the tail, and nowhere else") {
    TxBench<64> bench;
    for (std::uint64_t i = 0; i < 40; ++i) REQUIRE(bench.tx.send(small, i) == Sent::queued);
    bench.tx.flush();
    const auto sent = bench.transmit();
    REQUIRE(sent.size() == 40);
    for (unsigned i = 0; i < 40; ++i) CHECK(sent[i].reported == (i == 15 || i == 31 || i == 39));
}

TEST_CASE("a flush right behind a 16th frame adds no second report") {
    TxBench<64> bench;
    for (std::uint64_t i = 0; i < 16; ++i) bench.tx.send(small, i);
    bench.tx.flush();
    bench.transmit();
    CHECK(bench.to_report.size() == 1);
    bench.write_back(1);
    CHECK(bench.reclaim().size() == 16);
    bench.tx.flush();
    CHECK(bench.tail == 17);
}

TEST_CASE("cookies come back in order, whole reports at a time, and as many as there is room for") {
    TxBench<128> bench;
    for (std::uint64_t i = 0; i < 40; ++i) bench.tx.send(small, 100 + i);
    bench.tx.flush();
    bench.transmit();
    bench.write_back(1);
    CHECK(bench.reclaim(10).size() == 10);
    const auto rest = bench.reclaim(10);
    REQUIRE(rest.size() == 6);
    CHECK(rest.front() == 110);
    CHECK(rest.back() == 115);
    bench.write_back(2);
    CHECK(bench.reclaim().size() == 24);
}

TEST_CASE("a frame of 38 descriptors goes, one of 39 is refused and counted") {
    TxBench<64> bench;
    std::vector<Fragment> frame(38, Fragment{mem::Iova{0x1000}, 30});
    CHECK(bench.tx.send(frame, 1) == Sent::queued);
    bench.tx.flush();
    CHECK(bench.transmit().at(0).fragments.size() == 38);
    frame.push_back({mem::Iova{0x1000}, 30});
    CHECK(bench.tx.send(frame, 2) == Sent::refused);
    CHECK(bench.tx.counters().too_many_fragments == 1);
    CHECK(bench.tx.in_flight() == 1);
}

TEST_CASE("what the NIC would choke on is refused and counted by reason") {
    TxBench<64> bench;
    const auto send = [&](std::vector<Fragment> frame) { return bench.tx.send(frame, 0); };
    CHECK(send({}) == Sent::refused);
    CHECK(send({{mem::Iova{0x1000}, 16}}) == Sent::refused);
    CHECK(bench.tx.counters().too_short == 2);
    CHECK(send({{mem::Iova{0x1000}, 15'873}}) == Sent::refused);
    CHECK(send({{mem::Iova{0x1000}, 15'872}, {mem::Iova{0x1000}, 1}}) == Sent::refused);
    CHECK(send({{mem::Iova{0x1000}, 60}, {mem::Iova{0x1000}, 0xffff'ffff}}) == Sent::refused);
    CHECK(bench.tx.counters().too_long == 3);
    CHECK(send({{mem::Iova{0x1000}, 60}, {mem::Iova{0x1000}, 0}}) == Sent::refused);
    CHECK(send({{mem::Iova{0}, 60}}) == Sent::refused);
    CHECK(bench.tx.counters().bad_fragment == 2);
    CHECK(send({{mem::Iova{0x1000}, 17}}) == Sent::queued);
    CHECK(send({{mem::Iova{0x1000}, 15'872}}) == Sent::queued);
    bench.tx.flush();
    CHECK(bench.transmit().size() == 2);
}

TEST_CASE("a full ring says so, keeps one slot free, and takes frames again after reclaim") {
    TxBench<64> bench;
    CHECK(bench.tx.room() == 63);
    std::uint64_t queued = 0;
    while (bench.tx.send(small, queued) == Sent::queued) ++queued;
    CHECK(queued == 62);  // and one context
    CHECK(bench.tx.room() == 0);
    bench.tx.flush();
    CHECK(bench.tail == 63);
    bench.transmit();
    bench.write_back(1);
    CHECK(bench.reclaim().size() == 16);
    CHECK(bench.tx.room() == 17);  // the context's slot with them
    CHECK(bench.tx.send(small, queued) == Sent::queued);
}

TEST_CASE("the ring goes round many times; each cookie comes back once and in order") {
    TxBench<64> bench;
    std::uint64_t next = 0, expected = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        for (unsigned i = 0; i < 1 + round * 7 % 23; ++i) {
            const std::vector<Fragment> frame(1 + next % 5, Fragment{mem::Iova{0x1000 + next}, 60});
            if (bench.tx.send(frame, next) != Sent::queued) break;
            ++next;
        }
        bench.tx.flush();
        bench.transmit();
        bench.write_back(round % 4);
        for (const std::uint64_t cookie : bench.reclaim()) REQUIRE(cookie == expected++);
    }
    bench.write_back(100);
    for (const std::uint64_t cookie : bench.reclaim()) REQUIRE(cookie == expected++);
    CHECK(expected == next);
    CHECK(next > 5000);
    CHECK(bench.tx.in_flight() == 0);
    CHECK(bench.tx.room() == 63);
}

TEST_CASE("after the queue stopped, reset hands back what was not sent and writes a new context") {
    TxBench<64> bench;
    for (std::uint64_t i = 0; i < 3; ++i) bench.tx.send(small, i);
    bench.tx.flush();
    bench.transmit();
    bench.write_back(1);
    bench.tx.send(small, 3);
    bench.tx.flush();
    bench.tx.send(small, 4);
    CHECK(bench.reclaim().size() == 3);
    std::vector<std::uint64_t> unsent;
    bench.tx.reset([&](std::uint64_t cookie) { unsent.push_back(cookie); });
    CHECK(unsent == std::vector<std::uint64_t>{3, 4});
    CHECK(bench.tx.room() == 63);

    bench.head = bench.tail = 0;  // as the queue starts
    bench.has_context = false;
    bench.to_report.clear();
    bench.tx.send(small, 5);
    bench.tx.flush();
    CHECK(bench.transmit().size() == 1);
    bench.write_back(1);
    CHECK(bench.reclaim() == std::vector<std::uint64_t>{5});
}

TEST_CASE("a tail write that the device had no room for dies with the ring that it was for") {
    std::array<int, 2> sockets{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) == 0);
    const mem::FileDescriptor ours(sockets[0]), device(sockets[1]);
    Doorbell filler(ours.get(), VFTDT::at(0));
    while (filler.settled()) filler.ring(1);
    alignas(128) std::array<TxDescriptor, 16> slots{};
    TxRing ring{slots, Doorbell(ours.get(), VFTDT::at(0))};
    const Fragment frame{mem::Iova{0x1000}, 60};
    REQUIRE(ring.send({&frame, 1}, 0) == Sent::queued);
    ring.flush();
    CHECK_FALSE(ring.settled());
    ring.reset([](std::uint64_t) {});
    CHECK(ring.settled());
    std::array<char, 4096> read;
    while (::recv(device.get(), read.data(), read.size(), MSG_DONTWAIT) > 0) {
    }
    ring.flush();
    CHECK(::recv(device.get(), read.data(), read.size(), MSG_DONTWAIT) < 0);
}
