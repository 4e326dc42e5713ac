/// A guest that writes what it likes into a packed ring that may be one of pages, and a front-end that stops it and
/// starts it here and there. Nothing may be touched outside the ring and the region, every page stays in one hand, a
/// page of the other queue is never lost to this one, and no turn is without end.

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "mem/page_ledger.hpp"
#include "mem/page_pool.hpp"
#include "tests/fuzz/guest_ram.hpp"
#include "tests/fuzz/input.hpp"
#include "virtio/device.hpp"
#include "virtio/features.hpp"
#include "virtio/page_lending.hpp"

using namespace vitrine;
using fuzz::check;
using fuzz::guest_base;
using fuzz::Input;
using fuzz::Ram;
using virtio::PackedDescriptor;

namespace {

constexpr std::size_t ram_bytes = 0x4000;
constexpr std::size_t driver_area = 0x1000;
constexpr std::size_t device_area = 0x1040;
constexpr std::uint32_t pages = 40;
constexpr std::uint32_t held_limit = 12;
constexpr std::size_t page_bytes = 64;  // nobody looks into them
constexpr std::array<std::uint8_t, 16> instance{0x11, 0x22, 0x33, 0x44};

class Bench {
public:
    Bench(Ram& ram, std::uint8_t setup)
        : ram_(ram),
          entries_(static_cast<std::uint16_t>(1 + (setup & 15))),
          ledger_(mem::PageLedger::make(ledger_bytes_, {0, 0, instance, page_bytes, pages, 2})),
          pool_(packets_, mem::Iova{0x1'0000'0000}, page_bytes),
          lending_(pool_, ledger_, info_, headers_, mem::InfoPage::offers_packed_pages, held_limit),
          device_({.packed = true}) {
        std::memset(ram.mapping.data(), 0, ram_bytes);
        device_.memory() = std::move(ram.memory);
        device_.set_lending(&lending_);
        device_.set_features(virtio::feature::version_1 | virtio::feature::ring_packed |
                             virtio::feature::indirect_desc | virtio::feature::mrg_rxbuf |
                             ((setup & 16) != 0 ? virtio::feature::event_idx : 0) |
                             ((setup & 32) == 0 ? virtio::vrx::feature : 0));
        lending_.lend(1, pool_.take(mem::Holder::device));
        virtio::Vring& vring = device_.vring(0);
        vring.entries = entries_;
        vring.address = {.index = 0,
                         .flags = 0,
                         .descriptors = guest_base,
                         .used = guest_base + device_area,
                         .available = guest_base + driver_area,
                         .log = 0};
        vring.enabled = virtio::Enabled::yes;
        vring.started = true;
        if ((setup & 64) == 0) put_marker(static_cast<std::uint16_t>(1 + (setup & 3)));
        start(0x8000'8000);
    }

    ~Bench() {
        device_.stop(0);
        ram_.memory = std::move(device_.memory());
    }

    /// One act of the guest.
    void act(Input& input) {
        switch (input.below(8)) {
            case 0: {  // any bytes anywhere
                std::size_t i = input.take<std::uint16_t>();
                for (const std::byte byte : input.take_bytes(input.below(33)))
                    ram_.mapping.data()[i++ % ram_bytes] = byte;
                break;
            }
            case 1:
                put_marker(input.byte());
                break;
            case 2: {  // a wish
                const auto wish = input.take<std::uint32_t>();
                std::memcpy(ram_.mapping.data() + driver_area, &wish, sizeof(wish));
                break;
            }
            case 3: {  // a credit of another shape, or a buffer
                const auto flags = input.byte();
                put({.address = guest_base + 0x2000 + input.take<std::uint16_t>(),
                     .length_bytes = input.take<std::uint16_t>(),
                     .id = input.byte(),
                     .flags = static_cast<std::uint16_t>(flags & 7)});
                break;
            }
            case 4:  // a new driver
                std::memset(ram_.mapping.data(), 0, driver_area);
                next_ = {};
                break;
            default: {  // a credit
                std::uint64_t returns = 0;
                for (unsigned i = 0; i < 4; ++i) {
                    const auto page = input.byte();
                    const std::uint64_t returned = page < pages + 2 ? page : virtio::vrx::no_page;
                    returns |= returned << 16 * i;
                }
                put({.address = returns, .length_bytes = 0, .id = 0, .flags = PackedDescriptor::device_writes});
            }
        }
    }

    void stop_and_start(std::uint8_t how, std::uint32_t other_base) {
        const bool ran = device_.running(0);
        device_.stop(0);
        const std::uint32_t base = device_.base(0);
        const auto where = virtio::PackedBase::of(base);
        check(!ran || (where.available.slot < entries_ && where.used.slot < entries_));
        look();
        if ((how & 7) == 0) return start(other_base);
        if ((how & 7) == 1) return start(0x8000'8000);
        start(base);
    }
    void start(std::uint32_t base) {
        device_.set_base(0, base);
        const bool started = device_.start(0);
        const auto where = virtio::PackedBase::of(base);
        check(started == (where.available.slot < entries_ && where.used.slot < entries_));
    }

    void deliver(std::size_t parts, std::uint16_t length_bytes) {
        virtio::ReceiveRing* const ring = device_.receive(0);
        if (ring == nullptr) return;
        if (!ring->lends()) {
            static const std::array<std::byte, 9014> frame{};
            const std::span<const std::byte> whole(frame.data(), length_bytes % frame.size());
            ring->deliver(std::array{whole.first(whole.size() / 3), whole.subspan(whole.size() / 3)}, {});
            return;
        }
        std::vector<virtio::PagesKinds::Piece> pieces;
        while (pieces.size() < parts && pool_.available() > 0)
            pieces.push_back({pool_.take(mem::Holder::device), length_bytes % 1024u, 1u + length_bytes % 1000});
        if (pieces.empty()) return;
        const virtio::NetHeader header{};
        const auto outcome = ring->lend(pieces, {.checksum_ok = parts == 1, .header = parts == 2 ? &header : nullptr});
        if (outcome == virtio::Delivery::delivered) return;
        for (const auto& piece : pieces) pool_.give(piece.page);
    }
    void turn(std::uint8_t what) {
        virtio::ReceiveRing* const ring = device_.receive(0);
        if (ring == nullptr) return;
        if ((what & 1) != 0) ring->publish();
        if ((what & 2) != 0) check(ring->absorb() <= 256);
        ring->want_kicks((what & 4) != 0);
        if ((what & 8) != 0) ring->has_waiting();
        if ((what & 16) != 0) ring->prefetch(what >> 5);
    }
    void look() {
        const auto audit = pool_.audit();
        check(audit.free_list_agrees && audit.total() == pages);
        const auto held = [&](mem::Holder holder) { return audit.held[static_cast<std::size_t>(holder)]; };
        check(held(mem::Holder::guest) == ledger_.lent_to(0) + 1 && ledger_.lent_to(1) == 1);
        const virtio::ReceiveRing* const ring = device_.receive(0);
        const std::size_t staged = ring != nullptr && ring->text() == "pages, packed"
                                       ? ring->held() - ledger_.lent_to(0)
                                   : ring != nullptr && ring->broken() ? held(mem::Holder::device)
                                                                       : 0;
        check(held(mem::Holder::device) == staged);
        check(ledger_.lent_to(0) <= held_limit);
        if (ring == nullptr) return;
        const auto where = virtio::PackedBase::of(ring->base());
        check(where.available.slot < entries_ && where.used.slot < entries_);
    }

private:
    void put(PackedDescriptor made) {
        made.flags |= PackedDescriptor::available_in(next_.wrap);
        std::memcpy(ram_.mapping.data() + sizeof(made) * next_.slot, &made, sizeof(made));
        next_ = next_.after(1, entries_);
    }
    void put_marker(std::uint16_t most_pages) {
        put(virtio::vrx::PackedMarker::of(mem::region_tag(instance), most_pages));
    }

    Ram& ram_;
    std::uint16_t entries_;
    std::vector<std::byte> packets_ = std::vector<std::byte>(pages * page_bytes);
    std::vector<std::byte> headers_ = std::vector<std::byte>(pages * mem::header_slot_bytes);
    std::vector<std::byte> ledger_bytes_ = std::vector<std::byte>(mem::PageLedger::bytes_for(pages, 2));
    mem::InfoPage info_{};
    mem::PageLedger ledger_;
    mem::PagePool pool_;
    virtio::PageLending lending_;
    virtio::Device device_;
    virtio::PackedPosition next_;  ///< where an honest driver would write
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Ram ram{ram_bytes, 1};
    Input input(data, size);
    Bench bench(ram, input.byte());
    for (unsigned turn = 0; turn < 256 && !input.empty(); ++turn) {
        switch (input.below(8)) {
            case 0:
                bench.stop_and_start(input.byte(), input.take<std::uint32_t>());
                break;
            case 1:
            case 2:
                bench.deliver(1 + input.below(6), input.take<std::uint16_t>());
                break;
            case 3:
                bench.turn(input.byte());
                break;
            default:
                bench.act(input);
        }
        bench.look();
    }
    return 0;
}
