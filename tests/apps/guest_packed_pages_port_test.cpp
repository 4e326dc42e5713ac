/// Our own guest's driver for pages on packed rings, against a device that insists on its rules or breaks them.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <random>
#include <set>
#include <thread>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/held_frames.hpp"
#include "apps/guest/packed_pages_port.hpp"
#include "mem/mapping.hpp"
#include "mem/region_layout.hpp"
#include "tests/apps/guest_fake_packed_device.hpp"
#include "tests/support/directory.hpp"

using namespace vitrine;
using namespace vitrine::guest;
namespace vrx = virtio::vrx;
using virtio::EventSuppression;
using virtio::PackedBase;
using virtio::PackedDescriptor;
using virtio::PackedPosition;

namespace {

constexpr std::size_t least_pages = 100;

/// A region in a file, which the device writes and the guest does not.
struct Region {
    explicit Region(std::uint32_t page_bytes, std::uint32_t held_limit)
        : layout(mem::region_layout(least_pages, page_bytes, mem::info_page_bytes)),
          file(mem::open(directory / "pages", O_CREAT | O_RDWR, 0600)) {
        REQUIRE(::ftruncate(file.get(), static_cast<off_t>(layout.region_bytes)) == 0);
        mapping = mem::Mapping(file.get(), layout.region_bytes, 0, mem::Access::read_write);
        mem::InfoPage info{};
        info.magic = mem::InfoPage::magic_number;
        info.version = mem::InfoPage::version_number;
        info.info_bytes = sizeof(info);
        info.modes = mem::InfoPage::offers_packed_pages | mem::InfoPage::has_header_table;
        info.header_stride = mem::header_slot_bytes;
        info.queue_pairs = 1;
        info.instance = {1, 2, 3, 4};
        info.page_bytes = page_bytes;
        info.page_count = static_cast<std::uint32_t>(layout.page_count);
        info.pages_offset = layout.pages_offset;
        info.headers_offset = layout.headers_offset;
        info.held_limit = held_limit;
        std::memcpy(mapping.data(), &info, sizeof(info));
    }
    std::byte* page(std::uint16_t page) const {
        return mapping.data() + layout.pages_offset + page * layout.page_bytes;
    }

    test::Directory directory{test::in_memory};
    mem::RegionLayout layout;
    mem::FileDescriptor file;
    mem::Mapping mapping;
};

/// The device's side of section 9 as it is written there.
class LendingDevice {
public:
    LendingDevice(GuestRam& ram, PackedPagesPort& port, const Region& region, std::uint32_t held_limit)
        : ring(ram, port), region_(region), entries_(port.entries()), held_limit_(held_limit) {
        for (std::uint16_t page = 0; page < region.layout.page_count; ++page) free_.push_back(page);
    }

    /// 9.1. Nothing: the driver has not asked.
    std::optional<PackedDescriptor> read_marker() {
        const auto marker = ring.next();
        if (!marker) return std::nullopt;
        REQUIRE(marker->descriptors.size() == 1);
        most_pages_ = marker->descriptors[0].length_bytes >> 16;
        return marker->descriptors[0];
    }
    void answer(vrx::Answer answer) { ring.use_id(vrx::PackedMarker::id, answer.raw, PackedDescriptor::device_writes); }
    void grant() {
        REQUIRE(read_marker());
        answer(vrx::Answer::granted(vrx::Mode::pages));
    }

    /// 9.2 and 4.4. Returns how many credits came. `driver_knows`: it has seen all that was used, so that its slots can
    /// be counted from here.
    std::size_t absorb(bool driver_knows = true) {
        std::size_t credits = 0;
        for (; const auto credit = ring.next(); ++credits) {
            REQUIRE(credit->descriptors.size() == 1);
            const PackedDescriptor& descriptor = credit->descriptors[0];
            CHECK(descriptor.flags == PackedDescriptor::device_writes);
            CHECK(descriptor.length_bytes == 0);
            CHECK(descriptor.id == 0);
            unsigned returns = 0;
            for (unsigned index = 0; index < vrx::returns_per_descriptor; ++index) {
                const std::uint16_t page = vrx::returned_page(descriptor.address, index);
                if (page == vrx::no_page) continue;
                REQUIRE(lent_.erase(page) == 1);
                free_.push_back(page);
                ++returns;
            }
            const std::uint32_t free_slots = entries_ + 1u - ring.available.from(ring.used, entries_);
            const bool of_the_last = free_slots <= vrx::reserved_slots(most_pages_);
            if (driver_knows && of_the_last) CHECK((returns == vrx::returns_per_descriptor || lent_.empty()));
            returned_.push_back(returns);
        }
        return credits;
    }
    std::size_t credits() const { return ring.available.from(ring.used, entries_); }

    /// Lends a frame whose bytes are its number, if credits and limit allow it.
    bool deliver(std::uint32_t number, std::size_t parts = 1, std::uint32_t flags = 0) {
        absorb(false);
        if (credits() < parts || lent_.size() + parts > held_limit_) return false;
        std::vector<PackedDescriptor> used;
        for (std::size_t part = 0; part < parts; ++part) {
            const std::uint16_t page = free_.front();
            free_.pop_front();
            lent_.insert(page);
            std::memcpy(region_.page(page) + 32, &number, sizeof(number));
            const std::uint32_t next = part + 1 == parts ? 0 : vrx::PackedUsed::next;
            used.push_back({.address = vrx::PackedUsed::address_of(32, next | (part == 0 ? flags : 0)),
                            .length_bytes = static_cast<std::uint32_t>(64 + part),
                            .id = page,
                            .flags = PackedDescriptor::device_writes});
        }
        for (std::size_t part = parts; part-- > 0;)  // the first one's flags last
            ring.write_used_at(ring.used.after(static_cast<std::uint32_t>(part), entries_), used[part]);
        ring.used = ring.used.after(static_cast<std::uint32_t>(parts), entries_);
        return true;
    }
    std::size_t lent() const { return lent_.size(); }
    std::uint32_t most_pages_of_frame() const { return most_pages_; }
    /// How many pages each credit returned, since the last time.
    std::vector<unsigned> take_returned() { return std::exchange(returned_, {}); }

    FakePackedDevice ring;

private:
    const Region& region_;
    std::uint16_t entries_;
    std::uint32_t held_limit_;
    std::uint32_t most_pages_ = 0;
    std::deque<std::uint16_t> free_;
    std::set<std::uint16_t> lent_;
    std::vector<unsigned> returned_;
};

struct Bench {
    explicit Bench(const PackedPagesPort::Config& wanted, std::uint32_t page_bytes = 2048, std::uint32_t most_lent = 40)
        : config(wanted), held_limit(most_lent), region(page_bytes, most_lent) {}
    explicit Bench(std::uint16_t entries = 16) : Bench(PackedPagesPort::Config{.entries = entries}) {}

    void open() {
        port.start();
        device.grant();
        CHECK(port.receive().empty());
        port.flush();
        device.absorb();
        device.take_returned();
    }
    /// So many frames of one page, and all of them received.
    std::vector<LentFrame> lend(unsigned count) {
        for (unsigned number = 0; number < count; ++number) REQUIRE(device.deliver(number));
        const auto frames = port.receive();
        REQUIRE(frames.size() == count);
        return {frames.begin(), frames.end()};
    }
    /// What flush() makes of the credits: how many pages each returns.
    std::vector<unsigned> flush() {
        port.flush();
        device.absorb();
        return device.take_returned();
    }
    static std::uint32_t number_of(std::span<const std::byte> bytes) {
        std::uint32_t number = 0;
        std::memcpy(&number, bytes.data(), sizeof(number));
        return number;
    }

    PackedPagesPort::Config config;
    std::uint32_t held_limit;
    Region region;
    GuestRam ram{1 << 20, mem::Backing::small_only};
    PageRegion seen{region.file};
    PackedPagesPort port{ram, seen, config};
    LendingDevice device{ram, port, region, held_limit};
};

using Returns = std::vector<unsigned>;

}  // namespace

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
                full_fence();
                const auto wish = ring.driver_wish();
                if (wish.flags == EventSuppression::enable ||
                    (wish.flags == EventSuppression::at_position &&
                     virtio::passes_position(PackedPosition::of(wish.position), ring.used, before, 9)))
                    ring.call();
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
