/// A guest that writes what it likes into a ring that may be one of VRX, between the turns of the device and over its
/// deaths. Nothing may be touched outside the ring and the region, every page stays in one hand, a page of the other
/// queue is never lost to this one, and no turn is without end.

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "mem/page_ledger.hpp"
#include "mem/page_pool.hpp"
#include "tests/fuzz/guest_ram.hpp"
#include "tests/fuzz/input.hpp"
#include "virtio/offset_queue.hpp"
#include "virtio/page_lending.hpp"
#include "virtio/pages_queue.hpp"
#include "virtio/vrx_start.hpp"

using namespace vitrine;
using fuzz::check;
using fuzz::guest_base;
using fuzz::Input;
using fuzz::Ram;

namespace {

constexpr std::size_t ram_bytes = 0x8000;
constexpr std::size_t available_offset = 0x1000;
constexpr std::size_t used_offset = 0x2000;
constexpr std::uint32_t pages = 40;
constexpr std::size_t page_bytes = 64;  // nobody looks into them
constexpr std::array<std::uint8_t, 16> instance{0x11, 0x22, 0x33, 0x44};

/// What outlives the device process.
struct Kept {
    Kept() { mem::PageLedger::make(ledger_bytes, {0, 0, instance, page_bytes, pages, 2}); }
    std::vector<std::byte> packets = std::vector<std::byte>(pages * page_bytes);
    std::vector<std::byte> headers = std::vector<std::byte>(pages * mem::header_slot_bytes);
    std::vector<std::byte> ledger_bytes = std::vector<std::byte>(mem::PageLedger::bytes_for(pages, 2));
    mem::InfoPage info{};
};

class Process {
public:
    Process(Ram& ram, Kept& kept, std::uint8_t setup)
        : ram_(ram),
          entries_(static_cast<std::uint16_t>(1u << (setup & 7))),
          event_index_((setup & 8) != 0),
          ledger_(mem::PageLedger::in(kept.ledger_bytes).value()),
          pool_(kept.packets, mem::Iova{0x1'0000'0000}, page_bytes),
          lending_(pool_, ledger_, kept.info, kept.headers, setup >> 4 & 3, 12) {
        pool_.leave_with_guest([this](mem::PageId page) { return ledger_.is_lent(page); });
    }

    void start() {
        stop();
        std::byte* const base = ram_.memory.translate(mem::FrontendVirtual{guest_base}, ram_bytes);
        const virtio::DeviceRing ring(ram_.memory,
                                      {.entries = entries_,
                                       .descriptors = base,
                                       .available = base + available_offset,
                                       .used = base + used_offset},
                                      {.indirect = true, .event_index = event_index_}, {}, counters_);
        if (!ring.has_waiting()) return;
        const auto start = virtio::read_marker(ring, &lending_, 0);
        using Queue = virtio::PagesQueue;
        if (start.mode == virtio::vrx::Mode::pages)
            pages_.emplace(lending_, 0, virtio::LendingRing(ring),
                           start.live ? Queue::Start::live : Queue::Start::fresh, counters_);
        if (start.mode == virtio::vrx::Mode::offset)
            offset_.emplace(ram_.memory, ring, start.buffer_bytes, true, counters_);
    }
    void stop() {
        if (pages_) pages_->show();
        if (offset_) offset_->show();
        pages_.reset();
        offset_.reset();
    }
    void deliver(std::size_t parts, std::uint16_t length_bytes) {
        if (pages_) deliver_pages(parts, length_bytes);
        if (offset_) {
            static const std::array<std::byte, 9014> frame{};
            const std::span<const std::byte> whole(frame.data(), length_bytes % frame.size());
            offset_->deliver(std::array{whole.first(whole.size() / 3), whole.subspan(whole.size() / 3)}, {});
        }
    }
    void act(std::uint8_t what) {
        if (pages_) {
            if ((what & 1) != 0) pages_->publish();
            if ((what & 2) != 0) check(pages_->absorb() <= 256);
            pages_->want_kicks((what & 4) != 0);
        }
        if (offset_) {
            if ((what & 1) != 0) offset_->publish();
            offset_->want_kicks((what & 4) != 0);
        }
    }
    void look() const {
        const auto audit = pool_.audit();
        check(audit.free_list_agrees && audit.total() == pages);
        const auto held = [&](mem::Holder holder) { return audit.held[static_cast<std::size_t>(holder)]; };
        check(held(mem::Holder::guest) == ledger_.lent_to(0) + ledger_.lent_to(1));
        check(held(mem::Holder::device) == (pages_ ? pages_->staged() : 0));
        check(ledger_.is_lent_to(1, mem::PageId{pages - 1}));
        if (pages_) check(pages_->held() == ledger_.lent_to(0) + pages_->staged());
        check(!pages_ || ledger_.lent_to(0) <= 12);
    }

private:
    void deliver_pages(std::size_t parts, std::uint16_t length_bytes) {
        std::vector<virtio::PagesQueue::Piece> pieces;
        while (pieces.size() < parts && pool_.available() > 0) {
            const mem::PageId page = pool_.take(mem::Holder::device);
            pieces.push_back({page, length_bytes % 1024u, 1u + length_bytes % 1000});
        }
        if (pieces.empty()) return;
        const virtio::NetHeader header{};
        const auto outcome =
            pages_->deliver(pieces, {.checksum_ok = parts == 1, .header = parts == 2 ? &header : nullptr});
        if (outcome == virtio::PagesQueue::Outcome::delivered) return;
        for (const auto& piece : pieces) pool_.give(piece.page);
    }

    Ram& ram_;
    std::uint16_t entries_;
    bool event_index_;
    mem::PageLedger ledger_;
    mem::PagePool pool_;
    virtio::PageLending lending_;
    virtio::ReceiveCounters counters_;
    std::optional<virtio::PagesQueue> pages_;
    std::optional<virtio::OffsetQueue> offset_;
};

/// One store of the guest: anywhere, or where it matters most.
void store(Ram& ram, std::uint16_t entries, Input& input) {
    const auto put = [&](std::size_t offset, auto value) {
        std::memcpy(ram.mapping.data() + offset % (ram_bytes - sizeof(value)), &value, sizeof(value));
    };
    const std::size_t marker = virtio::vrx::marker_offset(entries);
    switch (input.below(8)) {
        case 0:
            put(input.take<std::uint16_t>(), input.take<std::uint32_t>());
            break;
        case 1:
            put(marker, virtio::vrx::Marker::of(static_cast<virtio::vrx::Mode>(2 + input.below(2)),
                                                mem::region_tag(instance), input.take<std::uint16_t>()));
            break;
        case 2:
            put(marker + 12, input.take<std::uint32_t>());
            break;
        case 3:
            put(marker + 12, std::uint32_t{input.byte()});
            break;
        case 4:
            put(input.byte() * 2u, std::uint16_t{input.byte()});
            break;
        case 5:
            put(available_offset + 2, input.take<std::uint16_t>());
            break;
        case 6:
            put(used_offset + 2u * input.below(2), input.take<std::uint16_t>());
            break;
        default:  // a descriptor, and a head
            put(16u * input.byte(), virtio::Descriptor{guest_base + 0x3000 + input.take<std::uint16_t>(),
                                                       input.take<std::uint16_t>(), input.byte(), 0});
            put(available_offset + 4 + 2u * input.byte(), std::uint16_t{input.byte()});
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Ram ram{ram_bytes, 1};
    std::memset(ram.mapping.data(), 0, ram_bytes);
    Input input(data, size);
    const auto setup = input.byte();
    const auto entries = static_cast<std::uint16_t>(1u << (setup & 7));
    Kept kept;
    mem::PageLedger::in(kept.ledger_bytes)->lend(1, mem::PageId{pages - 1});
    std::optional<Process> process(std::in_place, ram, kept, setup);
    for (unsigned turn = 0; turn < 256 && !input.empty(); ++turn) {
        switch (input.below(8)) {
            case 0:
                process->start();
                break;
            case 1:
                process.reset();  // dies, and what was staged with it
                process.emplace(ram, kept, setup);
                process->start();
                break;
            case 2:
            case 3:
                process->deliver(1 + input.below(6), input.take<std::uint16_t>());
                break;
            case 4:
                process->act(input.byte());
                break;
            default:
                store(ram, entries, input);
        }
        process->look();
    }
    return 0;
}
