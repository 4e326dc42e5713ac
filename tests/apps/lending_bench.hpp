#pragma once

#include <span>
#include <vector>

#include "mem/page_ledger.hpp"
#include "tests/apps/path_bench.hpp"
#include "tests/support/vrx_driver.hpp"
#include "virtio/page_lending.hpp"

namespace vitrine::test {

inline constexpr std::uint32_t pages = 256;
inline constexpr std::uint32_t held_limit = 40;

/// A NIC, and a guest that asks for pages.
struct LendingBench : PathBench {
    std::vector<std::byte> ledger_bytes = std::vector<std::byte>(mem::PageLedger::bytes_for(pages, 1));
    mem::PageLedger ledger = mem::PageLedger::make(ledger_bytes, {.device = 0,
                                                                  .inode = 0,
                                                                  .instance = {1, 2, 3, 4},
                                                                  .page_bytes = page_bytes,
                                                                  .page_count = pages,
                                                                  .queues = 1});
    mem::InfoPage info{};
    std::vector<std::byte> headers = std::vector<std::byte>(pages * mem::header_slot_bytes);
    virtio::PageLending lending{packets, ledger, info, headers, mem::InfoPage::offers_pages, held_limit};
    VrxDriver driver{ram, receive_ring_at, ring_entries, false, pages};

    explicit LendingBench(bool allowed = true, virtio::vrx::Mode mode = virtio::vrx::Mode::pages,
                          apps::Tunnel* tunnel = nullptr)
        : PathBench(false, tunnel) {
        if (allowed) device.set_lending(&lending);
        driver.start(virtio::vrx::Marker::of(mode, 0x0403'0201));
        driver.give_credits(ring_entries);
        connect_guest();
    }
    std::span<const std::byte> bytes(const virtio::vrx::UsedPage& word) const {
        return packets.bytes(mem::PageId{word.page()}).subspan(word.offset(), word.length_bytes());
    }
    void check_conserved() const {
        CHECK(received.frames_from_nic == device.receive_counters(0).frames + received.drop_held +
                                              received.drop_no_buffer + received.drop_ring_broken);
        check_pages_conserved();
        CHECK(packets.audit().held[3] == ledger.lent_to(0));
        CHECK(driver.breach == "");
    }
};

}  // namespace vitrine::test
