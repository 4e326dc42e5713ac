/// Guests that break the rules of OFFSET (docs/vrx.md, 5) while the NIC writes into their buffers: they harm themselves
/// alone. Other ways to break a ring are those of offset_queue_test; all of it in any order is fuzz/direct_path.

#include <algorithm>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "tests/apps/direct_bench.hpp"

using namespace vitrine;
using test::GuestRam;
using virtio::Descriptor;
using Bench = test::DirectBench;

namespace {

/// What of guest memory is not as it was, but for ring and the buffers named.
bool changed_elsewhere(const Bench& bench, const std::vector<std::byte>& before, std::vector<std::uint16_t> buffers) {
    const auto in_buffer = [&](std::size_t at) {
        return std::ranges::any_of(buffers, [&](std::uint16_t one) {
            const std::size_t begin = Bench::buffers_at + one * std::size_t{Bench::buffer_bytes};
            return at >= begin && at < begin + Bench::buffer_bytes;
        });
    };
    for (std::size_t at = bench.driver.bytes(); at < before.size(); ++at)
        if (bench.ram.bytes()[at] != before[at] && !in_buffer(at)) return true;
    return false;
}

std::vector<std::byte> memory_of(const Bench& bench) {
    return {bench.ram.bytes().begin(), bench.ram.bytes().end()};
}

}  // namespace

TEST_CASE("a head that is made available twice is written twice and used twice, in its place, and nothing else is") {
    Bench bench;
    const auto before = memory_of(bench);
    for (const std::uint16_t head : {1, 1, 2}) {
        bench.is_posted[head] = true;
        bench.put(head, Bench::buffer(head));
    }
    CHECK(bench.path.poll() == 3);
    for (const int filling : {1, 2, 3}) bench.nic_writes(60, true, std::byte(filling));
    bench.path.poll();
    CHECK(bench.driver.used_index() == 3);
    CHECK(bench.element(0).page() == 1);
    CHECK(bench.element(1).page() == 1);
    CHECK(bench.element(2).page() == 2);
    CHECK_FALSE(bench.queue->broken());
    CHECK_FALSE(changed_elsewhere(bench, before, {1, 2}));
    CHECK(bench.received.direct == 3);
}

TEST_CASE("VRX 5: a buffer that is not whole in guest memory, or of another length or kind, never reaches the NIC") {
    const Descriptor good = Bench::buffer(3);
    const std::uint64_t end = GuestRam::guest_base + 0x4'0000;
    std::vector<std::pair<std::uint16_t, Descriptor>> cases;
    for (const std::uint64_t address : {std::uint64_t{0}, GuestRam::guest_base - 2, end - Bench::buffer_bytes + 2, end,
                                        ~std::uint64_t{1}, ~std::uint64_t{0} - 2000, good.address + 1})
        cases.emplace_back(3, Descriptor{address, good.length_bytes, good.flags, 0});
    for (const std::uint32_t length_bytes : {0u, 1u, 2048u, Bench::buffer_bytes - 1, Bench::buffer_bytes + 1, ~0u})
        cases.emplace_back(3, Descriptor{good.address, length_bytes, good.flags, 0});
    for (const std::uint16_t flags :
         {Descriptor::device_writes | Descriptor::has_next, 0, Descriptor::device_writes | Descriptor::indirect})
        cases.emplace_back(3, Descriptor{good.address, good.length_bytes, flags, 1});
    for (const std::uint16_t head : {7, 8, 0xffff}) cases.emplace_back(head, good);

    for (const auto& [head, descriptor] : cases) {
        Bench bench;
        const auto before = memory_of(bench);
        bench.post(2);
        bench.put(head, descriptor);
        CHECK(bench.poll() == 2);
        CHECK(bench.nic->armed() == 2);
        CHECK(bench.queue->broken());
        CHECK(bench.counters.ring_broken == 1);
        CHECK(mem::drain_event(bench.driver.error.get()));
        bench.nic_writes(60, true, std::byte{1});
        CHECK(bench.poll() == 1);
        CHECK(bench.driver.used_index() == 0);
        CHECK(bench.received.drop_ring_broken == 1);
        CHECK_FALSE(changed_elsewhere(bench, before, {0, 1}));
    }
}

TEST_CASE("what a guest rewrites of a buffer that the NIC has changes nothing: it was read once") {
    Bench bench;
    const auto before = memory_of(bench);
    bench.post(2);
    bench.poll();
    for (const std::uint16_t head : {0, 1}) {
        const Descriptor elsewhere = Bench::buffer(5);
        std::memcpy(bench.ram.at(sizeof(elsewhere) * head), &elsewhere, sizeof(elsewhere));
        bench.driver.u16(bench.driver.available_offset() + 4 + 2u * head).store(5);
    }
    bench.nic_writes(60, true, std::byte{1});
    bench.nic_writes(61, true, std::byte{2});
    bench.poll();
    CHECK(bench.take()->bytes == std::vector<std::byte>(60, std::byte{1}));
    CHECK(bench.take()->bytes == std::vector<std::byte>(61, std::byte{2}));
    CHECK_FALSE(changed_elsewhere(bench, before, {0, 1}));
}

TEST_CASE("a guest that zeroes its ring under the NIC breaks it, and gets nothing more until it starts anew") {
    Bench bench;
    bench.post(7);
    bench.poll();
    for (unsigned i = 0; i < 3; ++i) bench.nic_writes(60, true, std::byte{1});
    bench.poll();
    const auto marker = virtio::vrx::Marker::of(virtio::vrx::Mode::offset, 0, Bench::buffer_bytes);
    bench.driver.start(marker);  // the driver's reset, without the device's
    bench.put(0, Bench::buffer(0));
    const auto before = memory_of(bench);
    bench.nic_writes(60, true, std::byte{2});
    bench.path.poll();
    bench.nic_writes(60, true, std::byte{2});
    bench.path.poll();
    CHECK(bench.queue->broken());
    CHECK(bench.nic->armed() == 2);
    CHECK(bench.received.direct + bench.received.drop_ring_broken == 5);
    CHECK_FALSE(changed_elsewhere(bench, before, {3, 4}));

    bench.path.detach();
    bench.driver.start(marker);
    bench.start();
    bench.put(0, Bench::buffer(0));
    bench.is_posted[0] = true;
    CHECK(bench.path.poll() == 1);
    bench.nic_writes(60, true, std::byte{3});
    bench.path.poll();
    CHECK(bench.driver.used_index() == 1);
    CHECK_FALSE(bench.queue->broken());
}

TEST_CASE("avail.idx that jumps while the NIC has buffers breaks the ring, and none is used that it may still write") {
    for (const std::uint16_t jump : {3, 1000, 0x7fff, 0xfff0}) {
        Bench bench;
        bench.post(7);
        bench.poll();
        bench.driver.u16(bench.driver.available_offset() + 2)
            .store(static_cast<std::uint16_t>(bench.driver.credits() + jump));
        bench.nic_writes(60, true, std::byte{1});
        for (unsigned turn = 0; turn < 3; ++turn) bench.poll();
        CHECK(bench.queue->broken());
        CHECK(bench.driver.used_index() <= 1);
        bench.stop();
        CHECK(bench.driver.used_index() <= 1);
    }
}

TEST_CASE("memory that goes takes its buffers with it: the NIC is given none, and they are available again") {
    Bench bench;
    bench.post(7);
    bench.poll();
    bench.nic_writes(60, true, std::byte{1});
    bench.poll();
    CHECK(bench.nic->armed() == 6);
    bench.stop();  // as before each change of the memory table
    bench.memory.set_iova(mem::GuestPhys{GuestRam::guest_base}, {});
    bench.start();
    CHECK(bench.poll() == 0);
    CHECK(bench.nic->armed() == 0);
    CHECK(bench.driver.used_index() == 1);

    bench.stop();
    bench.memory.set_iova(mem::GuestPhys{GuestRam::guest_base}, Bench::guest_iova);
    bench.start();
    CHECK(bench.poll() == 6);
    CHECK(bench.take()->bytes.size() == 60);
    bench.nic_writes(70, true, std::byte{2});
    bench.poll();
    CHECK(bench.take()->bytes == std::vector<std::byte>(70, std::byte{2}));
}
