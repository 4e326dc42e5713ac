#include "virtio/offset_queue.hpp"

#include <cstring>
#include <optional>

#include <doctest/doctest.h>

#include "tests/support/vrx_driver.hpp"
#include "virtio/vrx_start.hpp"

using namespace vitrine;
using virtio::OffsetQueue;
using virtio::vrx::Mode;
using virtio::vrx::UsedPage;
using Outcome = OffsetQueue::Outcome;

namespace {

constexpr std::uint32_t buffer_bytes = 2304;
constexpr std::uint64_t buffers = 0x1'0000;

struct Bench {
    explicit Bench(std::uint16_t wanted_entries = 8, bool mergeable = true) : entries(wanted_entries) {
        ram.announce_to(memory, ram.whole());
        driver.start(virtio::vrx::Marker::of(Mode::offset, 0, buffer_bytes));
        const virtio::DeviceRing ring(memory, driver.where(memory), {.indirect = true, .event_index = true},
                                      {.kick = -1, .call = driver.call.get(), .error = driver.error.get()}, counters);
        queue.emplace(memory, ring, buffer_bytes, mergeable, counters);
    }
    void set_descriptor(std::uint16_t index, const virtio::Descriptor& descriptor) {
        std::memcpy(ram.at(sizeof(descriptor) * index), &descriptor, sizeof(descriptor));
    }
    void post(std::uint16_t head, std::optional<virtio::Descriptor> descriptor = {}) {
        set_descriptor(head, descriptor.value_or(good(head)));
        driver.u16(driver.available_offset() + 4 + 2u * (driver.credits() % entries)).store(head);
        driver.give_credits(1);
    }
    static virtio::Descriptor good(std::uint16_t head) {
        return {.address = test::GuestRam::guest_base + buffers + head * std::uint64_t{buffer_bytes},
                .length_bytes = buffer_bytes,
                .flags = virtio::Descriptor::device_writes,
                .next = 0};
    }
    Outcome deliver(std::size_t bytes) {
        frame.resize(bytes);
        for (std::size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + i / 256);
        const std::span<const std::byte> whole(frame);
        const auto outcome = queue->deliver(std::array{whole.first(bytes / 3), whole.subspan(bytes / 3)}, {});
        queue->publish();
        return outcome;
    }
    UsedPage element(std::uint16_t position) {
        UsedPage word;
        std::memcpy(&word, ram.at(driver.used_offset() + 4 + 8u * (position % entries)), sizeof(word));
        return word;
    }
    std::span<const std::byte> data(const UsedPage& word) {
        return {ram.at(buffers + word.page() * std::uint64_t{buffer_bytes} + word.offset()), word.length_bytes()};
    }

    std::uint16_t entries;
    test::GuestRam ram{0x4'0000};
    virtio::GuestMemory memory;
    test::VrxDriver driver{ram, 0, entries, true, 0};
    virtio::ReceiveCounters counters;
    std::optional<OffsetQueue> queue;
    std::vector<std::byte> frame;
};

}  // namespace

TEST_CASE("VRX 5: the element says where the header begins; the frame follows it, and what is in front is nobody's") {
    Bench bench;
    CHECK(bench.driver.answer() == virtio::vrx::Answer::granted(Mode::offset));
    bench.post(3);
    REQUIRE(bench.deliver(1514) == Outcome::delivered);
    CHECK(bench.driver.used_index() == 1);
    const UsedPage word = bench.element(0);
    CHECK(word.page() == 3);
    CHECK(word.offset() == 116);
    CHECK(word.length_bytes() == 12 + 1514);
    CHECK((word.raw >> 52) == 0);
    virtio::NetHeader header;
    std::memcpy(&header, bench.data(word).data(), sizeof(header));
    CHECK(header.buffers == 1);
    CHECK(std::ranges::equal(bench.data(word).subspan(12), bench.frame));
    CHECK(bench.deliver(60) == Outcome::no_buffer);
}

TEST_CASE("VRX 5: a long frame goes on in further buffers, each at its own offset, and need not fill them") {
    Bench bench;
    for (const std::uint16_t head : {6, 1, 4}) bench.post(head);
    constexpr std::size_t room = buffer_bytes - 128;
    REQUIRE(bench.deliver(2 * room + 1) == Outcome::delivered);
    CHECK(bench.driver.used_index() == 3);
    const std::array heads{6, 1, 4};
    const std::array<std::size_t, 3> lengths{12 + room, room, 1};
    std::vector<std::byte> seen;
    for (std::uint16_t i = 0; i < 3; ++i) {
        const UsedPage word = bench.element(i);
        CHECK(word.page() == heads[i]);
        CHECK(word.offset() == (i == 0 ? 116 : 128));
        CHECK(word.length_bytes() == lengths[i]);
        seen.insert(seen.end(), bench.data(word).begin(), bench.data(word).end());
    }
    CHECK(std::ranges::equal(std::span(seen).subspan(12), bench.frame));
    virtio::NetHeader header;
    std::memcpy(&header, seen.data(), sizeof(header));
    CHECK(header.buffers == 3);
}

TEST_CASE("VRX 5: a frame that the ring can never hold is dropped, one that it cannot hold now waits") {
    Bench plain(8, false);
    plain.post(0);
    CHECK(plain.deliver(buffer_bytes - 128 + 1) == Outcome::dropped);
    CHECK(plain.deliver(buffer_bytes - 128) == Outcome::delivered);
    Bench small(2);
    small.post(0);
    CHECK(small.deliver(3000) == Outcome::dropped);
    Bench waits(4);
    waits.post(0);
    CHECK(waits.deliver(3000) == Outcome::no_buffer);
    waits.post(1);
    CHECK(waits.deliver(3000) == Outcome::delivered);
}

TEST_CASE(
    "VRX 5: a buffer that is chained, indirect, read-only, odd, of another length, at N-1 or nowhere breaks the ring") {
    const auto breaks = [](std::uint16_t head, auto change) {
        Bench bench;
        virtio::Descriptor descriptor = Bench::good(head);
        change(descriptor);
        bench.post(head, descriptor);
        const bool broken = bench.deliver(60) == Outcome::broken;
        CHECK(bench.queue->broken() == broken);
        CHECK(bench.driver.error.drain() == broken);
        CHECK(bench.driver.used_index() == (broken ? 0 : 1));
        return broken;
    };
    using virtio::Descriptor;
    CHECK_FALSE(breaks(6, [](Descriptor&) {}));
    CHECK(breaks(7, [](Descriptor&) {}));
    CHECK(breaks(0, [](Descriptor& descriptor) { descriptor.flags |= Descriptor::has_next; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { descriptor.flags |= Descriptor::indirect; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { descriptor.flags = 0; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { --descriptor.length_bytes; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { ++descriptor.length_bytes; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { descriptor.address = 64; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { ++descriptor.address; }));
    CHECK(breaks(0, [](Descriptor& descriptor) { descriptor.address += 0x2'f800; }));
}

TEST_CASE("VRX 5: buffers for a NIC are taken in order, named by its address of their data, and given back or not") {
    Bench bench;
    for (const std::uint16_t head : {5, 2, 6}) bench.post(head);
    CHECK(bench.queue->take().data == nullptr);  // no NIC sees that memory
    CHECK_FALSE(bench.queue->broken());

    constexpr mem::Iova seen_at{0x7'0000'0000};
    bench.memory.set_iova(mem::GuestPhys{test::GuestRam::guest_base}, seen_at);
    const auto first = bench.queue->take();
    const auto second = bench.queue->take();
    CHECK(first.head == 5);
    CHECK(first.iova.raw == seen_at.raw + buffers + 5 * buffer_bytes + 128);
    CHECK(second.head == 2);
    bench.queue->give_back(std::array{OffsetQueue::Filled{first, 60}}, {});
    bench.queue->publish();
    CHECK(bench.driver.used_index() == 1);
    CHECK(bench.element(0).offset() == 116);
    CHECK(bench.element(0).length_bytes() == 72);

    bench.queue->roll_back();
    CHECK(bench.queue->take().head == 2);
    bench.queue->give_back(std::array{OffsetQueue::Filled{second, 0}}, {});
    bench.queue->publish();
    CHECK(bench.element(1).page() == 2);
    CHECK(bench.element(1).length_bytes() == 12);
    CHECK(bench.queue->take().head == 6);
    CHECK(bench.queue->take().data == nullptr);
    CHECK(bench.counters.frames == 1);
}
