/// Frames shown to an application through a header page: both ends against each other, and each against a peer that
/// breaks the rules. Clauses of docs/zero_copy.md.

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/shown_frames.hpp"
#include "mem/region_layout.hpp"

using namespace vitrine;
using namespace vitrine::guest;

namespace {

constexpr std::uint32_t entries = HeaderPage::fewest_entries;

struct Bench {
    static constexpr mem::RegionLayout layout = mem::region_layout(100, 2048, 4096);
    static constexpr std::array<std::uint8_t, 16> instance{1, 2, 3};

    template <class T>
    T at(std::size_t place) const {
        T value{};
        std::memcpy(&value, page.data() + place, sizeof(value));
        return value;
    }
    template <class T>
    void put(std::size_t place, T value) {
        std::memcpy(page.data() + place, &value, sizeof(value));
    }
    static ShownPart part(std::uint32_t number, std::uint32_t length_bytes = 60, std::uint32_t flags = 0) {
        return {layout.pages_offset + number % layout.page_count * layout.page_bytes + 32, length_bytes, flags};
    }
    void stage(std::uint32_t number, std::uint32_t flags = 0) { owner.stage(part(number, 60 + number % 1000, flags)); }

    std::vector<std::byte> page = std::vector<std::byte>(header_page_bytes(entries));
    std::vector<std::byte> region = std::vector<std::byte>(layout.region_bytes);
    ShowingEnd owner{page, entries, 3, instance};
    ShownFrames application{page, entries, region, layout};
};

}  // namespace

TEST_CASE("Zero copy 2: every field lies where the specification says") {
    Bench bench;
    CHECK(bench.at<std::uint32_t>(0) == 0x41585256);
    CHECK(bench.at<std::uint16_t>(4) == 1);
    CHECK(bench.at<std::uint16_t>(6) == 3);
    CHECK(bench.at<std::uint32_t>(8) == entries);
    CHECK(bench.at<std::uint8_t>(17) == 2);
    bench.owner.stage({0x1'2345'6789, 0x600, ShownPart::next});
    bench.owner.stage(Bench::part(1));
    bench.owner.show();
    CHECK(bench.at<std::uint32_t>(64) == 1);  // the poll word
    CHECK(bench.at<std::uint32_t>(68) == 2);  // the count
    CHECK(bench.at<std::uint64_t>(4096) == 0x1'2345'6789);
    CHECK(bench.at<std::uint32_t>(4104) == 0x600);
    CHECK(bench.at<std::uint32_t>(4108) == 1);
    CHECK(bench.at<std::uint64_t>(4112) == Bench::part(1).offset);
    bench.put<std::uint32_t>(128, 2);
    CHECK(bench.owner.take_released());
    CHECK(bench.owner.room() == entries);
    bench.put<std::uint32_t>(132, 1);
    CHECK(bench.owner.show());
    bench.put<std::uint32_t>(136, 77);
    CHECK(bench.owner.gather_bytes() == 77);
}

TEST_CASE("Zero copy 3.1: nothing is seen before it is shown, then all of it, in order and in place") {
    Bench bench;
    for (std::uint32_t number = 0; number < 5; ++number) bench.stage(number);
    CHECK(!bench.application.end().has_new());
    CHECK(bench.application.receive().empty());
    bench.owner.show();
    CHECK(bench.application.end().has_new());
    const auto frames = bench.application.receive();
    REQUIRE(frames.size() == 5);
    for (std::uint32_t number = 0; number < 5; ++number) {
        CHECK(frames[number].bytes.data() == bench.region.data() + Bench::part(number).offset);
        CHECK(frames[number].length_bytes == 60 + number);
        CHECK(frames[number].parts == 1);
        CHECK(!frames[number].checksum_ok());
    }
    CHECK(!bench.application.end().has_new());
    CHECK(bench.application.receive().empty());
}

TEST_CASE("Zero copy 2.4: a frame of several parts, a good checksum, and a header from the header table") {
    Bench bench;
    FrameHeader header{};
    header.gso_type = 4;
    header.gso_bytes = 1448;
    std::memcpy(bench.region.data() + Bench::layout.headers_offset + 32 * 7, &header, sizeof(header));
    bench.owner.stage(Bench::part(7, 1000, ShownPart::header | ShownPart::next));
    bench.owner.stage(Bench::part(9, 500));
    bench.owner.stage(Bench::part(8, 60, ShownPart::checksum_ok));
    bench.owner.show();
    const auto frames = bench.application.receive();
    REQUIRE(frames.size() == 2);
    CHECK(frames[0].parts == 2);
    CHECK(frames[0].length_bytes == 1500);
    CHECK(frames[0].header.gso_type == 4);
    CHECK(frames[0].header.gso_bytes == 1448);
    CHECK(bench.application.part(frames[0], 1).data() == bench.region.data() + Bench::part(9).offset);
    CHECK(bench.application.part(frames[0], 1).size() == 500);
    CHECK(frames[1].checksum_ok());
    // One frame back is both its entries.
    bench.application.release(1);
    CHECK(bench.at<std::uint32_t>(128) == 2);
    bench.application.release_all();
    CHECK(bench.at<std::uint32_t>(128) == 3);
}

TEST_CASE("Zero copy 3.4: the owner refuses a release of what was not shown, and of what was released before") {
    for (const std::uint32_t lie : {4u, 0xffff'ffffu, 0x8000'0000u, entries + 4}) {
        CAPTURE(lie);
        Bench bench;
        for (std::uint32_t number = 0; number < 3; ++number) bench.stage(number);
        bench.owner.show();
        bench.stage(3);  // staged is not shown
        bench.put<std::uint32_t>(128, lie);
        CHECK(!bench.owner.take_released());
        CHECK(bench.owner.released_until() == 0);
    }
    Bench bench;
    for (std::uint32_t number = 0; number < 3; ++number) bench.stage(number);
    bench.owner.show();
    bench.put<std::uint32_t>(128, 2);
    CHECK(bench.owner.take_released());
    bench.put<std::uint32_t>(128, 1);
    CHECK(!bench.owner.take_released());
}

TEST_CASE("Zero copy 3.5: what the application writes elsewhere the owner does not read") {
    Bench bench;
    bench.stage(1);
    bench.owner.show();
    std::vector<std::byte> mine(bench.page.begin(), bench.page.begin() + 128);
    std::memset(bench.page.data(), 0xff, 128);
    std::memset(bench.page.data() + 140, 0xff, bench.page.size() - 140);
    CHECK(bench.owner.take_released());
    CHECK(bench.owner.room() == entries - 1);
    bench.stage(2);
    bench.owner.show();
    std::memcpy(bench.page.data(), mine.data(), 64);
    CHECK(bench.at<std::uint32_t>(64) == 2);
    CHECK(bench.at<std::uint32_t>(68) == 2);
}

TEST_CASE("Zero copy 3.6: an entry that cannot be ends the application's reading, and no byte is read for it") {
    const std::uint64_t first = Bench::layout.pages_offset;
    const std::uint64_t behind = first + Bench::layout.page_count * Bench::layout.page_bytes;
    const ShownPart bad[] = {
        {0, 60, 0},                           // the info page
        {first - 1, 60, 0},                   // in front of the pages
        {behind, 60, 0},                      // behind them
        {behind - 1, 2, 0},                   // and across their end
        {first + 2000, 49, 0},                // across a page's end
        {first, 0, 0},                        // nothing
        {first, 2049, 0},                     // more than a page
        {first, 60, 8},                       // an unknown flag
        {~std::uint64_t{0}, 0xffff'ffff, 0},  // a sum that wraps
        {first, 60, ShownPart::next},         // a frame that does not end
    };
    for (const ShownPart& part : bad) {
        CAPTURE(part.offset);
        CAPTURE(part.length_bytes);
        Bench bench;
        bench.stage(0);
        bench.owner.stage(part);
        bench.owner.show();
        CHECK(bench.application.receive().size() == 1);
        CHECK(bench.application.broken());
        bench.stage(1);
        bench.owner.show();
        CHECK(bench.application.receive().empty());
    }
    Bench bench;
    bench.put<std::uint64_t>(64, std::uint64_t{entries + 1} << 32 | 1);
    CHECK(bench.application.receive().empty());
    CHECK(bench.application.broken());
}

TEST_CASE("Zero copy 3: no frame is lost, doubled or out of order, however both sides are interleaved") {
    Bench bench;
    std::mt19937 random(7);
    std::deque<std::uint32_t> held;  // by the application
    std::uint32_t staged = 0, shown = 0, seen = 0, released = 0;
    for (unsigned turn = 0; turn < 200'000; ++turn) {
        switch (random() % 4) {
            case 0:
                for (std::uint32_t count = random() % 64; count != 0 && bench.owner.room() != 0; --count)
                    bench.stage(staged++);
                break;
            case 1:
                bench.owner.show();
                shown = staged;
                break;
            case 2:
                for (const Frame& frame : bench.application.receive()) {
                    REQUIRE(frame.length_bytes == 60 + seen % 1000);
                    held.push_back(seen++);
                }
                REQUIRE(seen == shown);
                break;
            default: {
                const std::size_t count = held.empty() ? 0 : random() % held.size() + 1;
                held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(count));
                bench.application.release(count);
                released += static_cast<std::uint32_t>(count);
                REQUIRE(bench.owner.take_released());
                REQUIRE(bench.owner.released_until() == released);
                REQUIRE(bench.owner.room() == entries - (staged - released));
            }
        }
    }
    CHECK(!bench.application.broken());
    CHECK(released > 100'000);
}

TEST_CASE("Zero copy 3.3: two threads, and no wake-up is ever missed") {
    constexpr std::uint32_t count = 50'000;
    Bench bench;
    std::atomic<std::uint32_t> signals{0};  // stands in for the eventfd
    std::thread owner([&] {
        for (std::uint32_t number = 0; number < count;) {
            while (bench.owner.room() != 0 && number < count && bench.owner.staged_until() % 7 != 6)
                bench.stage(number++);
            if (bench.owner.room() != 0 && number < count) bench.stage(number++);
            if (bench.owner.show()) {
                signals.fetch_add(1);
                signals.notify_all();
            }
            if (!bench.owner.take_released()) return;
        }
    });
    std::uint32_t seen = 0;
    bool good = true;
    while (seen < count && good) {
        const std::uint32_t before = signals.load();
        bench.application.end().want_wake_up(true);
        if (!bench.application.end().has_new()) signals.wait(before);
        bench.application.end().want_wake_up(false);
        for (const Frame& frame : bench.application.receive()) good &= frame.length_bytes == 60 + seen++ % 1000;
        bench.application.release_all();
    }
    owner.join();
    CHECK(good);
    CHECK(seen == count);
    CHECK(!bench.application.broken());
}
