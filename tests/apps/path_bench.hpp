#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "apps/vitrine/receive_path.hpp"
#include "apps/vitrine/transmit_path.hpp"
#include "driver/rx_ring.hpp"
#include "driver/tx_ring.hpp"
#include "mem/page_pool.hpp"
#include "tests/support/guest_ring.hpp"
#include "virtio/device.hpp"
#include "virtio/features.hpp"

namespace vitrine::test {

/// A NIC and a guest around the two paths, all in plain memory: the test plays both, step by step.
struct PathBench {
    static constexpr std::size_t slots = 64;
    static constexpr std::size_t page_bytes = 2048;
    static constexpr mem::Iova packet_iova{0x1'0000'0000}, bounce_iova{0x2'0000'0000};
    static constexpr std::uint16_t ring_entries = 64;
    static constexpr std::uint64_t receive_ring_at = 0, transmit_ring_at = 0x1'0000, buffers_at = 0x2'0000;

    std::vector<std::byte> packet_memory = std::vector<std::byte>(256 * page_bytes);
    std::vector<std::byte> bounce_memory = std::vector<std::byte>(slots * page_bytes);
    mem::PagePool packets{packet_memory, packet_iova, page_bytes};
    mem::PagePool bounce{bounce_memory, bounce_iova, page_bytes};
    alignas(128) std::array<driver::RxDescriptor, slots> rx_slots{};
    alignas(128) std::array<driver::TxDescriptor, slots> tx_slots{};
    std::uint32_t rx_tail = 0, tx_tail = 0;
    std::size_t rx_head = 0, tx_head = 0;
    driver::RxRing rx{rx_slots, driver::Doorbell(&rx_tail), packets};
    driver::TxRing tx{tx_slots, driver::Doorbell(&tx_tail)};

    GuestRam ram{4 << 20};
    GuestRing guest_rx{ram, receive_ring_at, ring_entries};
    GuestRing guest_tx{ram, transmit_ring_at, ring_entries};
    virtio::Device device{{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .pairs = 1}};

    apps::ReceivePathCounters received;
    apps::TransmitPathCounters sent;
    apps::ReceivePath receive;
    apps::TransmitPath transmit;

    explicit PathBench(bool guest_dma = false, apps::Tunnel* tunnel = nullptr)
        : receive(packets, device, 0, received, tunnel), transmit(bounce, device, 0, guest_dma, sent, tunnel) {
        rx.fill();
        receive.attach(rx, slots);
        transmit.attach(tx);
    }

    void connect_guest() {
        ram.announce_to(device.memory(), ram.whole());
        device.set_features(virtio::feature::version_1 | virtio::feature::mrg_rxbuf);
        start(0, guest_rx, receive_ring_at);
        start(1, guest_tx, transmit_ring_at);
    }
    void disconnect_guest() {
        device.stop(0);
        device.stop(1);
    }

    void post_receive_buffers(unsigned count, std::uint32_t bytes = 1536) {
        for (unsigned i = 0; i < count; ++i) {
            guest_rx.post({{buffers_at + 2048 * (guest_rx.posted() % ring_entries), bytes}}, true);
        }
    }
    /// The guest sends a frame whose bytes are all `filling`, behind an empty header.
    void guest_sends(std::uint32_t bytes, std::byte filling) {
        const std::uint64_t at = buffers_at + (1 << 20) + 4096 * (guest_tx.posted() % ring_entries);
        std::fill_n(ram.at(at), 12, std::byte{0});
        std::fill_n(ram.at(at + 12), bytes, filling);
        guest_tx.post({{at, 12}, {at + 12, bytes}}, false);
    }

    /// The NIC finishes one receive slot. Silicon reuses the address word, and never writes to a slot behind the tail.
    void nic_writes(std::uint16_t length_bytes, bool end_of_packet = true, std::byte filling = std::byte{0x5a},
                    bool error = false) {
        REQUIRE(rx_head != rx_tail);
        driver::RxDescriptor& slot = rx_slots[rx_head];
        REQUIRE(slot.page_iova >= packet_iova.raw);
        std::fill_n(packet_memory.data() + (slot.page_iova - packet_iova.raw),
                    std::min<std::size_t>(length_bytes, 2048), filling);
        slot.page_iova = 0;
        slot.done = driver::RxDone{}
                        .with(driver::RxDone::done, 1)
                        .with(driver::RxDone::end_of_packet, end_of_packet)
                        .with(driver::RxDone::mac_error, error)
                        .with(driver::RxDone::length_bytes, length_bytes)
                        .raw;
        rx_head = (rx_head + 1) % slots;
    }
    /// A whole frame, over as many slots as it takes; `last` says what stands in the last one's descriptor beside it.
    void nic_writes(std::span<const std::byte> frame, driver::RxDone last = {}) {
        while (!frame.empty()) {
            const auto part = frame.first(std::min(frame.size(), page_bytes));
            frame = frame.subspan(part.size());
            const std::size_t slot = rx_head;
            std::byte* const page = packet_memory.data() + (rx_slots[slot].page_iova - packet_iova.raw);
            nic_writes(static_cast<std::uint16_t>(part.size()), frame.empty());
            std::ranges::copy(part, page);
            if (frame.empty()) rx_slots[slot].done |= last.raw;
        }
    }
    bool nic_has_room() const { return rx_head != rx_tail; }

    struct SentFragment {
        std::uint64_t iova;
        std::uint64_t bytes;
        bool end_of_packet;
    };
    /// The NIC sends all it was shown and reports it. Silicon clobbers what it writes back.
    std::vector<SentFragment> nic_sends() {
        std::vector<SentFragment> fragments;
        for (; tx_head != tx_tail; tx_head = (tx_head + 1) % slots) {
            driver::TxDescriptor& slot = tx_slots[tx_head];
            const driver::TxData word{{slot.high}};
            if (word.get(driver::TxData::type) != driver::TxData::data_type) continue;
            fragments.push_back(
                {slot.low, word.get(driver::TxData::buffer_bytes), word.get(driver::TxData::end_of_packet) != 0});
            if (word.get(driver::TxData::report_status) != 0)
                slot = {0xdead'beef, driver::TxData{}.with(driver::TxData::done, 1).raw};
        }
        return fragments;
    }

    void check_pages_conserved() const {
        const mem::PagePool::Audit audit = packets.audit();
        CHECK(audit.free_list_agrees);
        CHECK(audit.held[1] == receive.pages_in_nic());
        CHECK(audit.held[2] == receive.waiting());
        CHECK(bounce.audit().held[1] == transmit.pages_in_nic());
    }

private:
    void start(unsigned ring, const GuestRing& guest, std::uint64_t at) {
        virtio::Vring& vring = device.vring(ring);
        vring.entries = ring_entries;
        vring.address = virtio::vhost_user::VringAddress{.index = ring,
                                                         .flags = 0,
                                                         .descriptors = GuestRam::user_base + at,
                                                         .used = GuestRam::user_base + guest.used_offset(),
                                                         .available = GuestRam::user_base + guest.available_offset(),
                                                         .log = 0};
        vring.started = true;
        vring.enabled = virtio::Enabled::yes;
        REQUIRE(device.start(ring));
        REQUIRE(device.running(ring));
    }
};

}  // namespace vitrine::test
