#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "tests/virtio/pages_bench.hpp"

namespace vitrine::test {

/// One device with one running queue, and a driver that gave all credits.
struct PagesQueueBench {
    using Queue = virtio::PagesQueue;
    using Outcome = Queue::Outcome;

    explicit PagesQueueBench(const PagesOptions& options = {}) : memory(options), device(std::in_place, memory) {
        start();
    }

    void start(std::uint16_t index = 0) {
        device->queues[0].reset();
        driver().start(PagesMemory::marker(), index);
        driver().give_credits(memory.options.entries);
        device->open(0);
        REQUIRE(device->queues[0].has_value());
    }
    /// The process dies and comes back.
    void die() {
        device.reset();
        device.emplace(memory);
        device->open(0);
        REQUIRE(device->queues[0].has_value());
    }
    VrxDriver& driver() { return *memory.drivers[0]; }
    Queue& queue() { return *device->queues[0]; }
    virtio::ReceiveCounters& counters() { return device->counters[0]; }
    mem::PageId fresh_page() {
        const mem::PageId page = device->pool.take(mem::Holder::nic);
        device->pool.pass(page, mem::Holder::nic, mem::Holder::device);
        return page;
    }
    Outcome deliver(std::size_t parts = 1, Queue::Note note = {}) {
        std::vector<Queue::Piece> pieces;
        for (std::size_t part = 0; part < parts; ++part)
            pieces.push_back({fresh_page(), static_cast<std::uint32_t>(64 * part), 100});
        const Outcome outcome = queue().deliver(pieces, note);
        if (outcome != Outcome::delivered)
            for (const auto& piece : pieces) device->pool.give(piece.page);
        return outcome;
    }
    /// Delivers, shows, and has the driver take it.
    virtio::vrx::UsedPage pass_one() {
        REQUIRE(deliver() == Outcome::delivered);
        queue().publish();
        const auto element = driver().take();
        REQUIRE(element.has_value());
        CHECK(driver().breach == "");
        return element->word;
    }
    void return_page(std::uint16_t page) {
        driver().give_back(page);
        driver().publish_returns();
    }
    std::size_t lent() { return device->ledger.lent_to(0); }

    PagesMemory memory;
    std::optional<PagesDevice<>> device;
};

}  // namespace vitrine::test
