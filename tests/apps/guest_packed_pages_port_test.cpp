/// Our own guest's driver for pages on packed rings, against a device that insists on its rules or breaks them.

#include <array>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "tests/apps/guest_packed_pages_bench.hpp"

using namespace vitrine;
using namespace vitrine::guest;
using Bench = PackedPortBench;
using virtio::PackedBase;
using virtio::PackedPosition;
using Returns = std::vector<unsigned>;

TEST_CASE("VRX 9.1: the marker is the first descriptor, then a credit in every other slot") {
    Bench bench;
    CHECK_FALSE(bench.device.read_marker());
    CHECK(bench.port.base() == 0x8000'8000);
    bench.port.start();
    CHECK(bench.device.ring.kicked());
    const auto marker = bench.device.read_marker();
    REQUIRE(marker);
    CHECK(marker->address == 0xfffe'5856'0403'0201);
    CHECK(marker->length_bytes == (5u << 16 | 1 << 8 | 3));  // 10 KiB in pages of 2 KiB
    CHECK(marker->id == 0xfffe);
    CHECK(marker->flags == PackedDescriptor::device_writes);
    CHECK(bench.device.absorb() == 15);
    CHECK(bench.device.take_returned() == Returns(15, 0));
}

TEST_CASE("VRX 9.1: a frame may have as many pages as it takes, and as leave room for the slots kept back") {
    const auto most = [](std::uint16_t entries, std::size_t frame_bytes, std::size_t page_bytes) {
        return PackedPagesPort::most_pages_of_frame({.entries = entries, .most_frame_bytes = frame_bytes}, page_bytes);
    };
    CHECK(most(256, 10240, 2048) == 5);
    CHECK(most(256, 10241, 2048) == 6);
    CHECK(most(256, 9022, 16384) == 1);
    CHECK(most(2, 9022, 2048) == 1);
    CHECK(most(3, 9022, 2048) == 2);
    CHECK(most(6, 9022, 2048) == 4);
    CHECK(most(7, 9022, 2048) == 5);
    for (std::uint16_t entries = 2; entries < 100; ++entries) {
        const std::uint16_t pages = most(entries, 100 * 2048, 2048);
        CHECK(pages >= 1);
        CHECK(pages + vrx::reserved_slots(pages) <= entries);
        CHECK(pages + 1 + vrx::reserved_slots(pages + 1u) > entries);
    }
}

TEST_CASE("VRX 9.1: the answer is seen where the marker was, and its slot becomes a credit") {
    Bench bench;
    bench.port.start();
    REQUIRE(bench.device.read_marker());
    bench.device.absorb();
    CHECK(bench.port.answer().none());
    CHECK_FALSE(bench.port.has_used());
    bench.device.answer(vrx::Answer::granted(vrx::Mode::pages));
    CHECK(bench.port.has_used());
    CHECK(bench.port.answer() == vrx::Answer::granted(vrx::Mode::pages));
    CHECK(bench.port.receive().empty());
    CHECK_FALSE(bench.port.has_used());
    bench.port.flush();
    CHECK(bench.device.absorb() == 1);
    CHECK(bench.port.answer() == vrx::Answer::granted(vrx::Mode::pages));
    CHECK_FALSE(bench.port.refused());
}

TEST_CASE("VRX 9.1, 3.4: a refusal ends it, before and after it is taken") {
    Bench bench;
    bench.port.start();
    REQUIRE(bench.device.read_marker());
    bench.device.absorb();
    bench.device.answer(vrx::Answer::refused(vrx::Refusal::too_small));
    CHECK(bench.port.refused());
    CHECK(bench.port.receive().empty());
    CHECK(bench.port.refused());
    CHECK(bench.port.answer().refusal() == vrx::Refusal::too_small);
    bench.port.flush();
    CHECK(bench.device.absorb() == 0);
    bench.device.ring.use_id(5, 60, PackedDescriptor::device_writes);  // it stays idle, whatever comes
    CHECK(bench.port.receive().empty());
    CHECK(bench.port.pages_held() == 0);
    CHECK(bench.port.violations().total() == 0);
}

TEST_CASE("VRX 9.1: what is no answer breaks the ring") {
    const std::array<PackedDescriptor, 6> wrong{{{0, 2, 0xfffe, PackedDescriptor::device_writes},
                                                 {0, 0, 0xfffe, PackedDescriptor::device_writes},
                                                 {0, 0x103, 0xfffe, PackedDescriptor::device_writes},
                                                 {1, 3, 0xfffe, PackedDescriptor::device_writes},
                                                 {0, 3, 7, PackedDescriptor::device_writes},
                                                 {0, 3, 0xfffe, 0}}};
    for (const PackedDescriptor& descriptor : wrong) {
        Bench bench;
        bench.port.start();
        bench.device.ring.write_used(descriptor);
        CHECK(bench.port.answer().none());
        CHECK(bench.port.receive().empty());
        CHECK(bench.port.broken());
        CHECK(bench.port.violations().of(Violation::element_out_of_bounds) == 1);
    }
}

TEST_CASE("VRX 9.3: frames where the NIC put them, of one page and of several, around the ring's end") {
    Bench bench(7);
    bench.open();
    std::vector<std::byte> scratch(1000);
    for (std::uint32_t turn = 0; turn < 50; ++turn) {
        REQUIRE(bench.device.deliver(turn));
        REQUIRE(bench.device.deliver(turn + 1000, 3));
        const auto frames = bench.port.receive();
        REQUIRE(frames.size() == 2);
        CHECK(frames[0].parts == 1);
        CHECK(frames[0].bytes.data() == bench.seen.page(frames[0].first).data() + 32);
        CHECK(Bench::number_of(frames[0].bytes) == turn);
        CHECK(frames[1].parts == 3);
        CHECK(frames[1].header.buffers == 3);
        CHECK(frames[1].length_bytes == 64 + 65 + 66);
        const auto whole = bench.port.contiguous(frames[1], scratch);
        REQUIRE(whole.size() == 195);
        CHECK(Bench::number_of(whole.subspan(129)) == turn + 1000);
        CHECK(Bench::number_of(bench.port.part(frames[1], 2)) == turn + 1000);
        CHECK(bench.port.pages_held() == 4);
        for (const LentFrame& frame : frames) bench.port.release(frame);
        bench.flush();
        CHECK(bench.device.lent() == 0);
    }
    CHECK(bench.port.violations().total() == 0);
}

TEST_CASE("VRX 6, 9.3: the header comes from the flags, or from the table") {
    Bench bench;
    bench.open();
    REQUIRE(bench.device.deliver(1));
    REQUIRE(bench.device.deliver(2, 1, vrx::PackedUsed::checksum_ok));
    const virtio::NetHeader header{.flags = virtio::NetHeader::needs_checksum, .checksum_start = 34};
    for (std::size_t page = 0; page < bench.region.layout.page_count; ++page)
        std::memcpy(bench.region.mapping.data() + bench.region.layout.headers_offset + mem::header_slot_bytes * page,
                    &header, sizeof(header));
    REQUIRE(bench.device.deliver(3, 2, vrx::PackedUsed::header));
    const auto frames = bench.port.receive();
    REQUIRE(frames.size() == 3);
    CHECK(frames[0].header.flags == 0);
    CHECK(frames[1].header.flags == virtio::NetHeader::data_valid);
    CHECK(frames[2].header.flags == virtio::NetHeader::needs_checksum);
    CHECK(frames[2].header.checksum_start == 34);
    CHECK(frames[2].header.buffers == 2);
}

TEST_CASE("VRX 4.1, 9.3: the guest's driver believes the device nothing") {
    const auto violation = [](PackedDescriptor used, Violation expected = Violation::element_out_of_bounds) {
        Bench bench;
        bench.open();
        bench.device.ring.write_used(used);
        CHECK(bench.port.receive().empty());
        CHECK(bench.port.broken());
        CHECK_FALSE(bench.port.has_used());
        bench.port.flush();
        CHECK(bench.device.absorb() == 0);
        return bench.port.violations().of(expected) == 1;
    };
    using Used = vrx::PackedUsed;
    constexpr std::uint16_t writes = PackedDescriptor::device_writes;
    CHECK(violation({Used::address_of(0, 0), 60, 0xfffe, writes}));
    CHECK(violation({Used::address_of(0, 0), 0, 1, writes}));
    CHECK(violation({Used::address_of(1, 0), 2048, 1, writes}));
    CHECK(violation({Used::address_of(0xffff, 0), 0xffff'ffff, 1, writes}));
    CHECK(violation({Used::address_of(0, 8), 60, 1, writes}));
    CHECK(violation({Used::address_of(0, 0) | std::uint64_t{1} << 32, 60, 1, writes}));
    CHECK(violation({Used::address_of(0, 0) | std::uint64_t{1} << 63, 60, 1, writes}));
    CHECK(violation({Used::address_of(0, Used::header | Used::checksum_ok), 60, 1, writes}));
    CHECK(violation({Used::address_of(0, 0), 60, 1, 0}));
    CHECK(violation({Used::address_of(0, 0), 60, 1, writes | PackedDescriptor::has_next}));
    CHECK(violation({Used::address_of(0, Used::next), 60, 1, writes}, Violation::frame_in_parts));
}

TEST_CASE("VRX 9.3: a frame of more pages than the marker allows breaks the ring") {
    Bench bench;
    bench.open();
    for (std::uint16_t page = 0; page < 6; ++page)
        bench.device.ring.write_used({vrx::PackedUsed::address_of(0, page == 5 ? 0 : vrx::PackedUsed::next), 60, page,
                                      PackedDescriptor::device_writes});
    CHECK(bench.port.receive().empty());
    CHECK(bench.port.violations().of(Violation::element_out_of_bounds) == 1);
    CHECK(bench.port.broken());
}

TEST_CASE("VRX 2.3, 9.2: a page that comes while the guest holds it, or has not returned it, breaks the ring") {
    for (const bool released : {false, true}) {
        Bench bench;
        bench.open();
        const auto frames = bench.lend(3);
        bench.flush();
        if (released) bench.port.release(frames[0]);
        CHECK(bench.flush().empty());
        bench.device.ring.use_id(static_cast<std::uint16_t>(frames[0].first), 60, PackedDescriptor::device_writes);
        CHECK(bench.port.receive().empty());
        CHECK(bench.port.violations().of(Violation::page_given_twice) == 1);
        CHECK(bench.port.broken());
    }
}

TEST_CASE("VRX 9.3: a slot used without a credit in it breaks the ring") {
    Bench bench;
    bench.open();
    for (std::uint16_t page = 0; page < 16; ++page) bench.device.ring.use_id(page, 60, PackedDescriptor::device_writes);
    CHECK(bench.port.receive().size() == 16);
    bench.device.ring.use_id(16, 60, PackedDescriptor::device_writes);
    CHECK(bench.port.receive().empty());
    CHECK(bench.port.violations().of(Violation::used_index_jumped) == 1);
    CHECK(bench.port.broken());

    Bench before;
    before.device.ring.use_id(0xfffe, 3, PackedDescriptor::device_writes);
    CHECK(before.port.receive().empty());
    CHECK(before.port.violations().of(Violation::used_index_jumped) == 1);
}

TEST_CASE("VRX 9.5: a stopped ring stands behind what was used; the device has read up to there, or on") {
    Bench bench;
    CHECK(bench.port.stands_at(0x8000'8000));
    bench.port.start();
    CHECK(bench.port.stands_at(0x8000'8000));
    CHECK_FALSE(bench.port.stands_at((PackedBase{{.slot = 0}, {.slot = 1}}).raw()));
    bench.device.grant();
    CHECK(bench.port.stands_at((PackedBase{{.slot = 1}, {.slot = 1}}).raw()));
    CHECK(bench.port.stands_at((PackedBase{{.slot = 5}, {.slot = 1}}).raw()));
    CHECK(bench.port.stands_at((PackedBase{{.slot = 0, .wrap = false}, {.slot = 1}}).raw()));
    CHECK_FALSE(bench.port.stands_at((PackedBase{{.slot = 1, .wrap = false}, {.slot = 1}}).raw()));
    CHECK_FALSE(bench.port.stands_at((PackedBase{{.slot = 0}, {.slot = 1}}).raw()));
    CHECK_FALSE(bench.port.stands_at((PackedBase{{.slot = 16}, {.slot = 1}}).raw()));
    bench.device.deliver(1, 2);
    CHECK(bench.port.stands_at(bench.device.ring.base()));
    CHECK_FALSE(bench.port.stands_at((PackedBase{{.slot = 1}, {.slot = 1}}).raw()));
    bench.port.receive();
    bench.port.flush();
    CHECK(bench.port.stands_at(bench.device.ring.base()));
    bench.device.absorb();
    CHECK(bench.port.stands_at(bench.device.ring.base()));
}
