#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "apps/vitrine/direct_path.hpp"
#include "tests/support/vrx_driver.hpp"

namespace vitrine::test {

/// A strict NIC and a strict guest around the path. The guest posts buffers in a changing order; a head is anywhere but
/// in two hands. After each turn of the device nothing is used that the NIC may still write.
struct DirectBench {
    static constexpr std::size_t slots_count = 16;
    static constexpr std::uint32_t buffer_bytes = 2176;
    static constexpr std::uint64_t buffers_at = 0x1'0000;
    static constexpr mem::Iova guest_iova{0x5'0000'0000};

    explicit DirectBench(std::uint16_t wanted_entries = 8, bool wanted_mergeable = true)
        : entries(wanted_entries), mergeable(wanted_mergeable), is_posted(entries) {
        ram.announce_to(memory, ram.whole());
        memory.set_iova(mem::GuestPhys{GuestRam::guest_base}, guest_iova);
        driver.start(virtio::vrx::Marker::of(virtio::vrx::Mode::offset, 0, buffer_bytes));
        for (std::uint16_t one = 0; one + 1 < entries; ++one) free.push_back(one);
        start();
    }
    /// Ring and NIC queue start, as after a restart of either: at the used.idx in memory.
    void start() {
        const virtio::DeviceRing ring(memory, driver.where(memory), {.indirect = false, .event_index = true},
                                      {.kick = -1, .call = driver.call.get(), .error = driver.error.get()}, counters);
        queue.emplace(memory, ring, buffer_bytes, mergeable, counters);
        head = tail = 0;
        nic.emplace(slots, driver::Doorbell(&tail), 2048);
        path.attach(*nic, *queue);
    }
    std::size_t poll() {
        const std::size_t moved = path.poll();
        check_used();
        return moved;
    }
    /// The NIC's queue goes off in the middle of whatever it does.
    void stop() {
        path.detach();
        check_used();
        head = tail;
    }
    void check_used() {
        for (; checked != driver.used_index(); ++checked) {
            const std::uint64_t used = buffer(element(checked).page()).address - GuestRam::guest_base + 128;
            for (std::size_t slot = head; slot != tail; slot = (slot + 1) % slots_count)
                CHECK(slots[slot].page_iova != guest_iova.raw + used);
        }
    }
    virtio::vrx::UsedPage element(std::uint16_t position) const {
        virtio::vrx::UsedPage word;
        std::memcpy(&word, ram.at(driver.used_offset() + 4 + 8u * (position % entries)), sizeof(word));
        return word;
    }
    /// Of a head, as a good driver describes it.
    static virtio::Descriptor buffer(std::uint16_t at) {
        return {.address = GuestRam::guest_base + buffers_at + at * std::uint64_t{buffer_bytes},
                .length_bytes = buffer_bytes,
                .flags = virtio::Descriptor::device_writes,
                .next = 0};
    }
    /// As it comes, good or bad.
    void put(std::uint16_t at, const virtio::Descriptor& descriptor) {
        if (at < entries - 1) std::memcpy(ram.at(sizeof(descriptor) * at), &descriptor, sizeof(descriptor));
        driver.u16(driver.available_offset() + 4 + 2u * (driver.credits() % entries)).store(at);
        driver.give_credits(1);
    }
    void post(std::size_t count) {
        for (; count != 0 && !free.empty(); --count) {
            const std::uint16_t at = free.front();
            free.pop_front();
            is_posted[at] = true;
            posted.push_back(at);
            put(at, buffer(at));
        }
    }
    bool nic_has_room() const { return head != tail; }
    void nic_writes(std::uint32_t length_bytes, bool end_of_packet, std::byte filling, bool error = false) {
        REQUIRE(nic_has_room());
        driver::RxDescriptor& slot = slots[head];
        REQUIRE(slot.done == 0);
        const std::uint64_t at = slot.page_iova - guest_iova.raw - buffers_at - 128;
        REQUIRE(at % buffer_bytes == 0);
        REQUIRE(is_posted.at(at / buffer_bytes));  // else it would write to memory that the guest uses
        std::fill_n(ram.at(slot.page_iova - guest_iova.raw), length_bytes, filling);
        slot = {.page_iova = 0,
                .done = driver::RxDone{}
                            .with(driver::RxDone::done, 1)
                            .with(driver::RxDone::end_of_packet, end_of_packet)
                            .with(driver::RxDone::mac_error, error)
                            .with(driver::RxDone::length_bytes, length_bytes)
                            .raw};
        head = static_cast<std::uint32_t>((head + 1) % slots_count);
    }
    struct Frame {
        std::vector<std::byte> bytes;
        std::size_t buffers;
    };
    /// The next frame that the guest sees; empty bytes: a buffer that came back with a header alone.
    std::optional<Frame> take() {
        if (driver.used_index() == seen) return std::nullopt;
        Frame frame{};
        std::uint16_t buffers = 1;
        for (std::uint16_t i = 0; i < buffers; ++i) {
            REQUIRE(driver.used_index() != seen);  // all of a frame at once
            const virtio::vrx::UsedPage word = element(seen++);
            REQUIRE(!posted.empty());
            CHECK(word.page() == posted.front());  // in the order of posting
            posted.pop_front();
            is_posted.at(word.page()) = false;
            free.push_back(word.page());
            CHECK(word.offset() == (i == 0 ? 116 : 128));
            REQUIRE(word.offset() + word.length_bytes() <= buffer_bytes);
            const std::byte* at = ram.at(buffers_at + word.page() * std::uint64_t{buffer_bytes} + word.offset());
            std::size_t bytes = word.length_bytes();
            if (i == 0) {
                virtio::NetHeader header;
                REQUIRE(bytes >= sizeof(header));
                std::memcpy(&header, at, sizeof(header));
                CHECK(header.flags == 0);
                buffers = header.buffers;
                REQUIRE(buffers >= 1);
                at += sizeof(header);
                bytes -= sizeof(header);
            }
            frame.bytes.insert(frame.bytes.end(), at, at + bytes);
        }
        frame.buffers = buffers;
        return frame;
    }
    std::uint64_t dropped() const {
        return received.drop_nic_error + received.drop_too_small + received.drop_ring_broken;
    }

    std::uint16_t entries;
    bool mergeable;
    GuestRam ram{0x4'0000};
    virtio::GuestMemory memory;
    VrxDriver driver{ram, 0, entries, true, 0};
    virtio::ReceiveCounters counters;
    std::optional<virtio::OffsetQueue> queue;
    alignas(128) std::array<driver::RxDescriptor, slots_count> slots{};
    std::uint32_t tail = 0, head = 0;
    std::optional<driver::BufferRing> nic;
    apps::ReceivePathCounters received;
    apps::DirectPath path{received};
    std::deque<std::uint16_t> free, posted;
    std::vector<bool> is_posted;
    std::uint16_t seen = 0, checked = 0;
};

}  // namespace vitrine::test
