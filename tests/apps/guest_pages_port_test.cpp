/// Our own guest's driver for pages, against the device's own code and against a device that breaks the rules.

#include <atomic>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <random>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>

#include "apps/guest/held_frames.hpp"
#include "apps/guest/pages_port.hpp"
#include "mem/packet_region.hpp"
#include "mem/page_pool.hpp"
#include "tests/support/directory.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/vrx_start.hpp"

using namespace vitrine;
using guest::LentFrame;
using guest::PagesPort;
using guest::Violation;
using virtio::vrx::Answer;
using virtio::vrx::UsedPage;

namespace {

/// A real region in a file, seen by the device writable and by the guest read-only, and a ring in guest RAM between
/// them.
struct Bench {
    static constexpr std::uint32_t held_limit = 40;

    explicit Bench(std::uint16_t entries = 16, bool event_index = true) : config{entries, event_index} {}

    /// As at a ring's start, when a credit is there.
    void open() {
        const virtio::DeviceRing ring(no_memory,
                                      {.entries = config.entries,
                                       .descriptors = const_cast<std::byte*>(port.descriptors()),
                                       .available = const_cast<std::byte*>(port.driver_area()),
                                       .used = const_cast<std::byte*>(port.device_area())},
                                      {.indirect = false, .event_index = config.event_index},
                                      {.kick = port.kick_descriptor(), .call = port.call_descriptor(), .error = -1},
                                      counters);
        REQUIRE(ring.has_waiting());
        const auto start = virtio::read_marker(ring, &lending, 0);
        REQUIRE(start.mode == virtio::vrx::Mode::pages);
        queue.emplace(lending, 0, virtio::LendingRing(ring),
                      start.live ? virtio::PagesQueue::Start::live : virtio::PagesQueue::Start::fresh, counters);
    }
    /// A frame of `parts` pages whose bytes are its number.
    virtio::Delivery deliver(std::uint32_t number, std::size_t parts = 1, virtio::PagesQueue::Note note = {}) {
        std::vector<virtio::PagesQueue::Piece> pieces;
        for (std::size_t part = 0; part < parts; ++part) {
            const mem::PageId page = pool.take(mem::Holder::device);
            std::memcpy(pool.bytes(page).data() + 32, &number, sizeof(number));
            pieces.push_back({page, 32, static_cast<std::uint32_t>(64 + part)});
        }
        const auto outcome = queue->deliver(pieces, note);
        if (outcome != virtio::Delivery::delivered)
            for (const auto& piece : pieces) pool.give(piece.page);
        return outcome;
    }
    static std::uint32_t number_of(std::span<const std::byte> bytes) {
        std::uint32_t number = 0;
        std::memcpy(&number, bytes.data(), sizeof(number));
        return number;
    }

    test::Directory directory{test::in_memory};
    mem::PacketRegion region{{.path = directory / "pages",
                              .ledger_path = directory / "ledger",
                              .wanted_pages = 200,
                              .queues = 1,
                              .held_limit = held_limit}};
    mem::PagePool pool{region.pages(), mem::Iova{0x1'0000'0000}, region.layout().page_bytes};
    virtio::PageLending lending{
        pool, region.ledger(), region.info(), region.headers(), mem::InfoPage::offers_pages, held_limit};
    PagesPort::Config config;
    guest::GuestRam ram{1 << 20, mem::Backing::small_only};
    guest::PageRegion seen{region.read_only_view()};
    PagesPort port{ram, seen, config};
    virtio::GuestMemory no_memory;
    virtio::ReceiveCounters counters;
    std::optional<virtio::PagesQueue> queue;
};

}  // namespace

TEST_CASE("VRX 3.3: the guest's driver gets its answer, then frames where the NIC put them") {
    Bench bench;
    CHECK(bench.port.answer().none());
    bench.port.start();
    bench.open();
    CHECK(bench.port.answer() == Answer::granted(virtio::vrx::Mode::pages));
    CHECK(bench.port.receive().empty());
    bench.deliver(7);
    bench.deliver(8, 3);
    bench.queue->publish();
    const auto frames = bench.port.receive();
    REQUIRE(frames.size() == 2);
    CHECK(frames[0].parts == 1);
    CHECK(frames[0].length_bytes == 64);
    CHECK(frames[0].bytes.data() == bench.seen.page(frames[0].first).data() + 32);
    CHECK(Bench::number_of(frames[0].bytes) == 7);
    CHECK(frames[1].parts == 3);
    CHECK(frames[1].header.buffers == 3);
    CHECK(frames[1].length_bytes == 64 + 65 + 66);
    std::vector<std::byte> scratch(1000);
    const auto whole = bench.port.contiguous(frames[1], scratch);
    CHECK(whole.size() == 195);
    CHECK(Bench::number_of(whole.subspan(64)) == 8);
    CHECK(Bench::number_of(whole.subspan(129)) == 8);
    CHECK(bench.port.pages_held() == 4);
}

TEST_CASE("VRX 6: the guest's driver makes up the header from the flags, or finds it in the table") {
    Bench bench;
    bench.port.start();
    bench.open();
    const virtio::NetHeader header{.flags = virtio::NetHeader::needs_checksum, .checksum_start = 34};
    bench.deliver(1);
    bench.deliver(2, 1, {.checksum_ok = true});
    bench.deliver(3, 2, {.header = &header});
    bench.queue->publish();
    const auto frames = bench.port.receive();
    REQUIRE(frames.size() == 3);
    CHECK(frames[0].header.flags == 0);
    CHECK(frames[1].header.flags == virtio::NetHeader::data_valid);
    CHECK(frames[2].header.flags == virtio::NetHeader::needs_checksum);
    CHECK(frames[2].header.checksum_start == 34);
    CHECK(frames[2].header.buffers == 2);
}

TEST_CASE("VRX 4.4: frames are released in any order, long after they came, and each stays what it was till then") {
    Bench bench;
    bench.port.start();
    bench.open();
    std::mt19937 random(1);
    struct Kept {
        LentFrame frame;
        std::uint32_t number;
    };
    std::vector<Kept> kept;
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
    while (received < 20'000) {
        for (unsigned burst = random() % 8; burst > 0; --burst)
            if (bench.deliver(sent, 1 + random() % 4) == virtio::Delivery::delivered) ++sent;
        bench.queue->publish();
        for (const LentFrame& frame : bench.port.receive()) kept.push_back({frame, received++});
        for (unsigned count = random() % 12; count > 0 && !kept.empty(); --count) {
            std::swap(kept[random() % kept.size()], kept.back());
            bench.port.for_each_part(kept.back().frame, [&](std::span<const std::byte> part) {
                if (Bench::number_of(part) != kept.back().number) FAIL("a page was written while it was held");
            });
            bench.port.release(kept.back().frame);
            kept.pop_back();
        }
        bench.port.flush();
        if (bench.port.pages_held() > Bench::held_limit) FAIL("more than may be held");
    }
    for (const Kept& one : kept) bench.port.release(one.frame);
    bench.port.flush();
    while (bench.queue->absorb() != 0) {
    }
    CHECK(sent == received);
    CHECK(bench.queue->held() == 0);
    CHECK(bench.counters.bad_returns == 0);
    CHECK(bench.port.violations().total() == 0);
    CHECK(bench.pool.available() == bench.pool.pages());
}

TEST_CASE("VRX 8: device and driver on two threads, both sleeping when there is nothing: no frame lost, none torn") {
    for (const bool event_index : {false, true}) {
        CAPTURE(event_index);
        Bench bench(8, event_index);
        constexpr std::uint32_t frames = 50'000;
        bench.port.start();
        bench.open();
        std::atomic<bool> slept_too_long{false};
        const auto wait = [&](int descriptor) {
            pollfd entry{descriptor, POLLIN, 0};
            if (::poll(&entry, 1, 20'000) != 1) slept_too_long = true;
        };
        std::thread device([&] {
            for (std::uint32_t number = 0; number < frames && !slept_too_long;) {
                const std::uint32_t before = number;
                for (unsigned burst = 1 + number % 5; burst > 0 && number < frames; --burst) {
                    if (bench.deliver(number, 1 + number % 3) != virtio::Delivery::delivered) break;
                    ++number;
                }
                bench.queue->publish();
                if (number != before) continue;
                bench.queue->want_kicks(true);
                if (bench.deliver(number, 1 + number % 3) == virtio::Delivery::delivered)
                    ++number;
                else
                    wait(bench.queue->kick_descriptor());
                bench.queue->publish();
                bench.queue->want_kicks(false);
                bench.queue->drain_kick();
            }
        });
        std::deque<LentFrame> held;
        std::uint32_t received = 0;
        std::uint32_t wrong = 0;
        while (received < frames && !slept_too_long && !bench.port.broken()) {
            const auto burst = bench.port.receive();
            for (const LentFrame& frame : burst) {
                bench.port.for_each_part(
                    frame, [&](std::span<const std::byte> part) { wrong += Bench::number_of(part) != received; });
                ++received;
                held.push_back(frame);
            }
            while (held.size() > received % 6) {
                bench.port.release(held.front());
                held.pop_front();
            }
            bench.port.flush();
            if (!burst.empty()) continue;
            while (!held.empty()) {  // who sleeps holds nothing: the device may need it to go on
                bench.port.release(held.front());
                held.pop_front();
            }
            bench.port.flush();
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
        CHECK(bench.counters.bad_returns == 0);
    }
}

TEST_CASE("VRX 4.1: the guest's driver believes the device nothing") {
    const auto violation = [](UsedPage word, Violation expected, std::uint16_t index = 1) {
        Bench bench;
        bench.port.start();
        bench.open();
        std::memcpy(const_cast<std::byte*>(bench.port.device_area()) + 4, &word, sizeof(word));
        std::memcpy(const_cast<std::byte*>(bench.port.device_area()) + 2, &index, sizeof(index));
        CHECK(bench.port.receive().empty());
        CHECK(bench.port.broken());
        return bench.port.violations().of(expected) == 1;
    };
    const auto odd = Violation::element_out_of_bounds;
    CHECK(violation(UsedPage::of(0xffff, 0, 60), odd));
    CHECK(violation(UsedPage::of(1, 0, 0), odd));
    CHECK(violation(UsedPage::of(1, 1, 2048), odd));
    CHECK(violation(UsedPage::of(1, 0xffff, 0xf'ffff), odd));
    CHECK(violation(UsedPage::of(1, 0, 60, std::uint64_t{1} << 55), odd));
    CHECK(violation(UsedPage::of(1, 0, 60, UsedPage::header | UsedPage::checksum_ok), odd));
    CHECK(violation(UsedPage::of(1, 0, 60, UsedPage::next), Violation::frame_in_parts));
    CHECK(violation(UsedPage::of(1, 0, 60), Violation::used_index_jumped, 17));
    CHECK(violation(UsedPage::of(0, 0, 60, UsedPage::next), Violation::element_out_of_bounds, 2));
}

TEST_CASE("VRX 2.3: a page that comes while the guest holds it breaks the ring") {
    Bench bench;
    bench.port.start();
    bench.open();
    const std::array words{UsedPage::of(5, 0, 60), UsedPage::of(5, 0, 60)};
    const std::uint16_t index = 2;
    std::memcpy(const_cast<std::byte*>(bench.port.device_area()) + 4, &words, sizeof(words));
    std::memcpy(const_cast<std::byte*>(bench.port.device_area()) + 2, &index, sizeof(index));
    CHECK(bench.port.receive().size() == 1);
    CHECK(bench.port.broken());
    CHECK(bench.port.violations().of(Violation::page_given_twice) == 1);
}

TEST_CASE("VRX 7.5: a device that comes back finds the guest's pages; the guest notices nothing") {
    Bench bench;
    bench.port.start();
    bench.open();
    bench.deliver(1);
    bench.deliver(2);
    bench.queue->publish();
    const auto frames = bench.port.receive();
    const LentFrame first = frames[0];
    const LentFrame second = frames[1];
    bench.port.release(second);
    bench.port.flush();
    bench.queue.reset();
    bench.open();
    CHECK(bench.queue->held() == 1);
    bench.deliver(3);
    bench.queue->publish();
    CHECK(Bench::number_of(bench.port.receive()[0].bytes) == 3);
    CHECK(Bench::number_of(first.bytes) == 1);
    bench.port.release(first);
    bench.port.flush();
    bench.queue->absorb();
    CHECK(bench.queue->held() == 1);
    CHECK(bench.seen.generation(0) == 0);
}

TEST_CASE("a region that is none is refused with a reason") {
    const Bench bench;
    const mem::FileDescriptor file = mem::open(bench.directory / "other", O_CREAT | O_RDWR, 0600);
    CHECK_THROWS_AS(guest::PageRegion{file}, std::system_error);
    REQUIRE(::ftruncate(file.get(), 1 << 20) == 0);
    CHECK_THROWS_WITH_AS(guest::PageRegion{file}, doctest::Contains("no magic"), std::system_error);
}

TEST_CASE("a held frame is given back in its turn, and named when it is not what it was") {
    Bench bench;
    bench.port.start();
    bench.open();
    guest::HeldFrames<PagesPort> held(2, 2048);
    std::vector<std::uint16_t> pages;
    for (std::uint64_t number = 0; number < 5; ++number) {
        const mem::PageId page = bench.pool.take(mem::Holder::device);
        mem::write_test_frame(bench.pool.bytes(page).first(100), {}, {}, {.flow = 0, .sequence = number});
        REQUIRE(bench.queue->deliver(std::array{virtio::PagesQueue::Piece{page, 0, 100}}, {}) ==
                virtio::Delivery::delivered);
        bench.queue->publish();
        for (const LentFrame& frame : bench.port.receive()) {
            pages.push_back(static_cast<std::uint16_t>(frame.first));
            held.keep(bench.port, frame, *mem::read_test_frame(frame.bytes));
        }
        CHECK(bench.port.pages_held() == std::min<std::size_t>(number + 1, 2));
    }
    // The device writes the next frame, which is whole and good, where the guest still reads: as bad as a broken one.
    mem::write_test_frame(bench.pool.bytes(mem::PageId{pages[3]}).first(100), {}, {}, {.flow = 0, .sequence = 9});
    CHECK(held.changed() == 0);
    held.let_all_go();
    CHECK(held.changed() == 1);
    CHECK(bench.port.pages_held() == 0);
}
