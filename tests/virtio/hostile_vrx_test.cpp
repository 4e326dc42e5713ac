/// Guests that write what they like into a ring that pages are lent to, and into the region if they can, while the
/// device runs and dies.
///
/// What else a guest may do with VRX has its test elsewhere:
///     avail.idx jumps                                 pages_queue_test, "VRX 4.2: more credits than slots ..."
///     release_index jumps                             pages_queue_test, "VRX 4.4: 4N entries may wait ..."
///     pages returned twice, others', beyond the last  pages_queue_test, "VRX 4.4: pages returned twice ..."
///     a page returned that it was not yet shown       pages_queue_test, "VRX 4.4: a page that is staged ..."
///     used.idx set back over a restart                pages_life_test,  "VRX 11: whatever a guest writes ..."
///     pages never returned                            pages_queue_test, "VRX 4.5: ..."; e2e/pages.py
///     a marker where none is allowed, or a bad one    vrx_start_test, "VRX 3.4: ..."; lending_path_test
///     odd buffers in OFFSET                           offset_queue_test, "VRX 5: ..."
///     writing the region, or reading what is stale    mem/packet_region_test, "VRX 11: a peer ...", "VRX 2.2: ..."
///     all of it in any order, and shrunk to a seed    fuzz/vrx_ring

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "tests/virtio/pages_bench.hpp"

using namespace vitrine;
using test::PagesMemory;
using test::PagesOptions;
using virtio::vrx::Marker;
using Queue = virtio::PagesQueue;

namespace {

constexpr unsigned hostile = 0, victim = 1;

/// Marker, release ring, release index, avail.idx, used.idx and used.flags of one ring, at random until it goes out of
/// scope; good values now and then, so that the ring lives longer than a moment.
class Scribbler {
public:
    explicit Scribbler(PagesMemory& memory) : thread_([&memory, this] { run(memory); }) {}
    /// How far the device has read the release ring: a guest that counts along is read further.
    void hear_of_reading(std::uint32_t seen) { seen_ = seen; }
    ~Scribbler() {
        stop_ = true;
        thread_.join();
    }

private:
    void run(PagesMemory& memory) {
        std::mt19937 random(7);
        const test::VrxDriver& driver = *memory.drivers[hostile];
        const auto put = [&](std::uint64_t offset, auto word) {
            std::atomic_ref(*reinterpret_cast<decltype(word)*>(memory.ram.at(offset)))
                .store(word, std::memory_order_relaxed);
        };
        const std::uint64_t marker = driver.marker_offset();
        const auto released = [&] {
            return static_cast<std::uint32_t>(seen_ + random() % (4 * memory.options.entries));
        };
        while (!stop_) {
            const auto word = static_cast<std::uint32_t>(random());
            switch (random() % 12) {
                case 0:
                    put(marker + 4 * (random() % 4), word);
                    break;
                case 1:
                case 2: {  // good again, part by part
                    const Marker good = PagesMemory::marker();
                    put(marker, good.magic_and_tag);
                    put(marker + 8, good.mode_and_version);
                    break;
                }
                case 3:
                    put(marker + 12, random() % 16 == 0 ? word : released());
                    break;
                case 4:
                    put(driver.available_offset() + 2, static_cast<std::uint16_t>(word));
                    break;
                case 5:
                case 6:
                case 7:  // as a good driver would: the ring is empty again
                    put(driver.available_offset() + 2,
                        static_cast<std::uint16_t>(driver.used_index() + memory.options.entries));
                    break;
                case 8:
                    put(driver.used_offset() + 2 * (random() % 2), static_cast<std::uint16_t>(word));
                    break;
                default:
                    put(PagesMemory::ring_distance * hostile + 2 * (random() % (4 * memory.options.entries)),
                        static_cast<std::uint16_t>(word % (memory.options.pages + 2)));
                    put(marker + 12, released());
            }
        }
    }

    std::atomic<bool> stop_ = false;
    std::atomic<std::uint32_t> seen_ = 0;
    std::thread thread_;
};

/// One device life after the other over two rings, and what must hold in each.
struct Bench {
    explicit Bench(PagesMemory& shared) : memory(shared), device(std::in_place, shared) {}

    mem::PageId fresh_page() {
        const mem::PageId page = device->pool.take(mem::Holder::nic);
        device->pool.pass(page, mem::Holder::nic, mem::Holder::device);
        return page;
    }
    virtio::Delivery deliver(unsigned queue, std::size_t parts) {
        std::vector<Queue::Piece> pieces;
        for (std::size_t part = 0; part < parts; ++part) pieces.push_back({fresh_page(), 64, 100});
        const auto outcome = device->queues[queue]->deliver(pieces, {});
        if (outcome != virtio::Delivery::delivered)
            for (const auto& piece : pieces) device->pool.give(piece.page);
        return outcome;
    }
    void die() {
        device.reset();
        device.emplace(memory);
    }
    void check_conserved() {
        const auto audit = device->pool.audit();
        std::size_t lent = 0, staged = 0;
        for (unsigned queue = 0; queue < 2; ++queue) {
            lent += device->ledger.lent_to(queue);
            if (device->queues[queue]) staged += device->queues[queue]->staged();
        }
        REQUIRE(audit.free_list_agrees);
        REQUIRE(audit.total() == memory.options.pages);
        REQUIRE(audit.held[static_cast<std::size_t>(mem::Holder::guest)] == lent);
        REQUIRE(audit.held[static_cast<std::size_t>(mem::Holder::device)] == staged);
        REQUIRE(device->ledger.lent_to(hostile) <= memory.options.held_limit);
    }

    PagesMemory& memory;
    std::optional<test::PagesDevice<>> device;
};

std::chrono::seconds fuzzing_time() {
    return std::chrono::seconds(std::getenv("VITRINE_LONG") != nullptr ? 60 : 10);
}

}  // namespace

TEST_CASE(
    "VRX 11: marker, release ring and avail.idx rewritten at random while the device runs: only their ring suffers") {
    PagesMemory memory({.entries = 16, .pages = 200, .held_limit = 64, .queues = 2});
    Bench bench(memory);
    test::VrxDriver& good = *memory.drivers[victim];
    memory.drivers[hostile]->start(PagesMemory::marker());
    good.start(PagesMemory::marker());
    good.give_credits(16);

    std::mt19937 random(1);
    std::uint64_t delivered = 0, broken = 0, lives = 0, refused = 0, to_victim = 0, absorbed = 0;
    Scribbler scribbler(memory);
    const auto end = std::chrono::steady_clock::now() + fuzzing_time();
    while (std::chrono::steady_clock::now() < end || delivered == 0 || broken == 0) {
        for (unsigned turn = 0; turn < 64; ++turn) {
            auto& queue = bench.device->queues[hostile];
            if (!queue) {
                const auto start = bench.device->open(hostile);
                refused += start && start->answer.is_refusal();
            } else if (queue->broken()) {
                ++broken;
                queue->show();  // as at each stop
                queue.reset();  // the front-end starts it anew
            } else {
                delivered += bench.deliver(hostile, 1 + random() % 4) == virtio::Delivery::delivered;
                if (random() % 2 == 0) queue->publish();
                if (random() % 4 == 0) absorbed += queue->absorb();
                queue->want_kicks(random() % 2 == 0);
            }
            scribbler.hear_of_reading(bench.device->ledger.seen(hostile));
            // The other ring goes on as if nothing were.
            if (!bench.device->queues[victim]) REQUIRE(bench.device->open(victim).has_value());
            REQUIRE(bench.deliver(victim, 1) == virtio::Delivery::delivered);
            bench.device->queues[victim]->publish();
            const auto element = good.take();
            REQUIRE(element.has_value());
            REQUIRE(good.breach == "");
            good.give_back(element->word.page());
            good.publish_returns();
            good.give_credits(1);
            bench.device->queues[victim]->absorb();
            ++to_victim;
        }
        bench.check_conserved();
        if (random() % 8 == 0) {
            bench.die();
            ++lives;
        }
    }
    CHECK(bench.device->ledger.lent_to(victim) == 0);
    CHECK(refused > 0);
    CHECK(absorbed > 0);
    MESSAGE(delivered << " frames for the hostile ring, " << to_victim << " for the other, " << broken
                      << " times broken, " << refused << " times refused, " << absorbed << " returns read, " << lives
                      << " deaths of the device");
}

TEST_CASE(
    "VRX 11: a guest that could write the region steers nothing with it: pages, generation and restart are as ever") {
    PagesMemory memory({.entries = 8, .pages = 40, .held_limit = 16, .queues = 2});
    Bench bench(memory);
    test::VrxDriver& driver = *memory.drivers[hostile];
    const auto scribble = [&](int value) {
        std::memset(static_cast<void*>(&memory.info), value, sizeof(memory.info));
        std::memset(memory.headers.data(), value, memory.headers.size());
        std::memset(memory.packets.data(), value, memory.packets.size());
    };
    for (const int value : {0x00, 0xff, 0x55}) {
        driver.start(PagesMemory::marker());
        driver.give_credits(8);
        scribble(value);
        bench.device->queues[hostile].reset();
        REQUIRE(bench.device->open(hostile)->mode == virtio::vrx::Mode::pages);
        for (unsigned frame = 0; frame < 3; ++frame) {
            scribble(value);
            REQUIRE(bench.deliver(hostile, 2) == virtio::Delivery::delivered);
            bench.device->queues[hostile]->publish();
        }
        scribble(value);
        bench.die();
        REQUIRE(bench.device->open(hostile)->live);
        for (unsigned element = 0; element < 6; ++element) REQUIRE(driver.take().has_value());
        CHECK(driver.breach == "");
        bench.check_conserved();
        CHECK(bench.device->ledger.lent_to(hostile) == 6);
    }
    // Taken back twice, by the two starts that found pages lent: of the device's own count, not of what was in the
    // page.
    CHECK(bench.device->ledger.generation(hostile) == 2);
    CHECK(bench.device->ledger.generation(victim) == 0);
}
