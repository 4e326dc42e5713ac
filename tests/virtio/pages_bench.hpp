#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "mem/page_ledger.hpp"
#include "mem/page_pool.hpp"
#include "mem/region_layout.hpp"
#include "tests/support/vrx_driver.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/vrx_start.hpp"

namespace vitrine::test {

struct PagesOptions {
    std::uint16_t entries = 8;
    std::size_t pages = 64;
    std::uint32_t held_limit = 24;
    bool event_index = true;
    unsigned queues = 1;
    std::size_t page_bytes = 2048;
};

/// What outlives a device process: guest memory, the region, the ledger.
struct PagesMemory {
    static constexpr std::uint64_t ring_distance = 0x4000;
    static constexpr std::array<std::uint8_t, 16> instance{0x11, 0x22, 0x33, 0x44, 9};

    explicit PagesMemory(const PagesOptions& wanted)
        : options(wanted), packets(wanted.pages * wanted.page_bytes), headers(wanted.pages * mem::header_slot_bytes) {
        ram.announce_to(memory, ram.whole());
        ledger_bytes.resize(mem::PageLedger::bytes_for(wanted.pages, wanted.queues));
        mem::PageLedger::make(ledger_bytes, {.device = 0,
                                             .inode = 0,
                                             .instance = instance,
                                             .page_bytes = static_cast<std::uint32_t>(wanted.page_bytes),
                                             .page_count = static_cast<std::uint32_t>(wanted.pages),
                                             .queues = wanted.queues});
        for (unsigned queue = 0; queue < wanted.queues; ++queue)
            drivers.push_back(std::make_unique<VrxDriver>(ram, ring_distance * queue, wanted.entries,
                                                          wanted.event_index, wanted.pages));
    }
    static virtio::vrx::Marker marker(virtio::vrx::Mode mode = virtio::vrx::Mode::pages) {
        return virtio::vrx::Marker::of(mode, mem::region_tag(instance));
    }

    PagesOptions options;
    GuestRam ram{0x1'0000};
    virtio::GuestMemory memory;
    mem::InfoPage info{};
    std::vector<std::byte> packets;
    std::vector<std::byte> headers;
    std::vector<std::byte> ledger_bytes;
    std::vector<std::unique_ptr<VrxDriver>> drivers;
};

/// A device process, from its start to its death.
template <class Steps = mem::NoSteps>
struct PagesDevice {
    using Queue = virtio::BasicPagesQueue<Steps>;
    static constexpr std::uint32_t modes = mem::InfoPage::offers_pages | mem::InfoPage::offers_offset;

    explicit PagesDevice(PagesMemory& shared, Steps wanted_step = {})
        : memory(shared),
          step(wanted_step),
          ledger(mem::PageLedger::in(shared.ledger_bytes).value()),
          pool(shared.packets, mem::Iova{0x1'0000'0000}, shared.options.page_bytes),
          lending(pool, ledger, shared.info, shared.headers, modes, shared.options.held_limit),
          queues(shared.options.queues) {
        pool.leave_with_guest([this](mem::PageId page) { return ledger.is_lent(page); });
    }
    virtio::DeviceRing ring(unsigned queue) {
        VrxDriver& driver = *memory.drivers[queue];
        virtio::DeviceRing made(
            memory.memory, driver.where(memory.memory), {.indirect = false, .event_index = memory.options.event_index},
            {.kick = driver.kick.get(), .call = driver.call.get(), .error = driver.error.get()}, counters[queue]);
        made.want_kicks(false);  // as Device::start() does
        made.owe_call();
        return made;
    }
    /// As at a ring's start: the queue is there once a credit is seen. Returns what it became then.
    std::optional<virtio::RingStart> open(unsigned queue) {
        virtio::DeviceRing found = ring(queue);
        if (!found.has_waiting()) return std::nullopt;
        const virtio::RingStart start = virtio::read_marker(found, &lending, queue);
        if (start.mode == virtio::vrx::Mode::pages)
            queues[queue].emplace(lending, queue, virtio::LendingRing(found),
                                  start.live ? Queue::Start::live : Queue::Start::fresh, counters[queue], step);
        return start;
    }

    PagesMemory& memory;
    Steps step;
    mem::PageLedger ledger;
    mem::PagePool pool;
    virtio::PageLending lending;
    std::array<virtio::ReceiveCounters, 4> counters;
    std::vector<std::optional<Queue>> queues;
};

}  // namespace vitrine::test
