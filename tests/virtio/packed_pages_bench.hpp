#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "mem/page_ledger.hpp"
#include "mem/page_pool.hpp"
#include "mem/region_layout.hpp"
#include "tests/support/packed_vrx_driver.hpp"
#include "virtio/device.hpp"
#include "virtio/features.hpp"
#include "virtio/page_lending.hpp"

namespace vitrine::test {

struct PackedPagesOptions {
    std::uint16_t entries = 7;
    std::uint16_t most_pages_of_frame = 2;
    std::size_t pages = 64;
    std::uint32_t held_limit = 24;
    unsigned pairs = 1;
    bool event_index = true;
    std::uint32_t modes = mem::InfoPage::offers_packed_pages;
    std::uint64_t features = virtio::vrx::feature;
};

/// The device with receive rings over which it lends pages, and a driver for each. The device is the product's, with
/// its stops and starts; only the front-end's messages are left out.
struct PackedPagesBench {
    static constexpr std::uint64_t ring_distance = 0x4000;
    static constexpr std::size_t page_bytes = 2048;
    static constexpr std::uint32_t first_base = 0x8000'8000;
    static constexpr std::array<std::uint8_t, 16> instance{0x11, 0x22, 0x33, 0x44, 9};
    using Outcome = virtio::Delivery;
    using Piece = virtio::PagesKinds::Piece;

    explicit PackedPagesBench(const PackedPagesOptions& wanted = {})
        : options(wanted),
          packets(wanted.pages * page_bytes),
          headers(wanted.pages * mem::header_slot_bytes),
          ledger_bytes(mem::PageLedger::bytes_for(wanted.pages, wanted.pairs)),
          ledger(mem::PageLedger::make(
              ledger_bytes, {0, 0, instance, page_bytes, static_cast<std::uint32_t>(wanted.pages), wanted.pairs})),
          pool(packets, mem::Iova{0x1'0000'0000}, page_bytes),
          lending(pool, ledger, info, headers, wanted.modes, wanted.held_limit),
          device({.pairs = wanted.pairs, .packed = true}) {
        ram.announce_to(device.memory(), ram.whole());
        device.set_lending(&lending);
        device.set_features(virtio::feature::version_1 | virtio::feature::ring_packed | virtio::feature::indirect_desc |
                            (wanted.event_index ? virtio::feature::event_idx : 0) | wanted.features);
        for (unsigned pair = 0; pair < wanted.pairs; ++pair) {
            drivers.push_back(
                std::make_unique<PackedVrxDriver>(ram, ring_distance * pair, wanted.entries, wanted.pages, page_bytes));
            virtio::Vring& vring = device.vring(2 * pair);
            vring.entries = wanted.entries;
            vring.address = {.index = 2 * pair,
                             .flags = 0,
                             .descriptors = GuestRam::user_base + ring_distance * pair,
                             .used = GuestRam::user_base + driver(pair).device_area(),
                             .available = GuestRam::user_base + driver(pair).driver_area(),
                             .log = 0};
            vring.kick = mem::duplicate(driver(pair).kick.get());
            vring.call = mem::duplicate(driver(pair).call.get());
            vring.error = mem::duplicate(driver(pair).error.get());
            vring.enabled = virtio::Enabled::yes;
            vring.started = true;
        }
    }

    PackedVrxDriver& driver(unsigned pair = 0) { return *drivers[pair]; }
    virtio::ReceiveRing& ring(unsigned pair = 0) { return *device.receive(pair); }
    const virtio::ReceiveCounters& counters(unsigned pair = 0) { return device.receive_counters(pair); }
    std::size_t lent(unsigned pair = 0) { return ledger.lent_to(pair); }

    virtio::PackedDescriptor marker() const {
        return virtio::vrx::PackedMarker::of(mem::region_tag(instance), options.most_pages_of_frame);
    }
    void start(std::uint32_t base, unsigned pair = 0) {
        device.set_base(2 * pair, base);
        REQUIRE(device.start(2 * pair));
        REQUIRE(device.running(2 * pair));
    }
    /// Returns what GET_VRING_BASE would.
    std::uint32_t stop(unsigned pair = 0) {
        device.stop(2 * pair);
        return device.base(2 * pair);
    }
    /// A driver starts anew, with this for a marker, and the device looks.
    std::optional<virtio::vrx::Answer> open(const virtio::PackedDescriptor& wanted, unsigned pair = 0) {
        stop(pair);
        driver(pair).start(wanted);
        start(first_base, pair);
        ring(pair).lends();
        ring(pair).publish();
        return driver(pair).take_answer();
    }
    /// The same, with all credits that a driver may give.
    void open(unsigned pair = 0) {
        REQUIRE(open(marker(), pair) == virtio::vrx::Answer::granted(virtio::vrx::Mode::pages));
        driver(pair).give_all();
        ring(pair).absorb();
    }
    /// Stops it, and starts it where it stopped.
    void restart(unsigned pair = 0) { start(stop(pair), pair); }

    std::vector<Piece> pieces(std::size_t parts) {
        std::vector<Piece> made;
        for (std::size_t part = 0; part < parts; ++part)
            made.push_back({pool.take(mem::Holder::device), static_cast<std::uint32_t>(64 * part), 100});
        return made;
    }
    Outcome lend(std::size_t parts = 1, const virtio::PagesKinds::Note& note = {}, unsigned pair = 0) {
        REQUIRE(ring(pair).lends());
        const auto made = pieces(parts);
        const Outcome outcome = ring(pair).lend(made, note);
        if (outcome != Outcome::delivered)
            for (const Piece& piece : made) pool.give(piece.page);
        return outcome;
    }
    /// Lends, shows, and has the driver take it.
    std::vector<std::uint16_t> pass(std::size_t parts = 1, unsigned pair = 0) {
        REQUIRE(lend(parts, {}, pair) == Outcome::delivered);
        ring(pair).publish();
        std::vector<std::uint16_t> taken;
        for (const auto& element : driver(pair).take()) taken.push_back(element.page);
        REQUIRE(taken.size() == parts);
        REQUIRE_MESSAGE(driver(pair).breach.empty(), driver(pair).breach);
        return taken;
    }
    /// Every page is in one hand, and pool, ledger and queues agree. What the test holds itself is `own`.
    void audit(std::size_t own = 0) {
        const auto audit = pool.audit();
        const auto held = [&](mem::Holder holder) { return audit.held[static_cast<std::size_t>(holder)]; };
        REQUIRE(audit.free_list_agrees);
        REQUIRE(audit.total() == options.pages);
        std::size_t lent_to_all = 0, held_by_all = 0;
        for (unsigned pair = 0; pair < options.pairs; ++pair) {
            lent_to_all += lent(pair);
            const auto* const queue = device.receive(pair);
            const bool pages =
                queue != nullptr && queue->packed_pages_of_frame() && queue->text() != "no buffer seen yet";
            held_by_all += pages ? queue->held() : lent(pair);
        }
        REQUIRE(held(mem::Holder::guest) == lent_to_all);
        REQUIRE(held(mem::Holder::device) == held_by_all - lent_to_all + own);
    }

    PackedPagesOptions options;
    GuestRam ram{0x1'0000};
    mem::InfoPage info{};
    std::vector<std::byte> packets;
    std::vector<std::byte> headers;
    std::vector<std::byte> ledger_bytes;
    mem::PageLedger ledger;
    mem::PagePool pool;
    virtio::PageLending lending;
    virtio::Device device;
    std::vector<std::unique_ptr<PackedVrxDriver>> drivers;
};

}  // namespace vitrine::test
