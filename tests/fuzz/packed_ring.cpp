/// A guest that writes what it likes into its memory while the device walks its packed rings. The input is a list of
/// stores into guest RAM, and of descriptors made available or rewritten, with device turns, stops and starts between
/// them. Nothing may be touched outside guest memory, every chain that comes back is counted once, the places of a base
/// are in the ring, and no turn is without end.

#include <array>
#include <cstring>
#include <optional>

#include "tests/fuzz/guest_ram.hpp"
#include "tests/fuzz/input.hpp"
#include "virtio/receive_queue.hpp"
#include "virtio/transmit_queue.hpp"

using namespace vitrine;
using fuzz::check;
using fuzz::guest_base;
using fuzz::Input;
using fuzz::Ram;

namespace {

constexpr std::size_t region_bytes = 0x4000;
constexpr std::size_t ram_bytes = 2 * region_bytes;  // two regions side by side, then nothing
constexpr std::size_t driver_area = 0x1000;
constexpr std::size_t device_area = 0x1040;
constexpr std::size_t first_table_slot = 0x180;  // tables lie behind the event areas
constexpr std::uint32_t most_frame_bytes = 1518;

/// The guest: it knows where the next descriptor goes, as a driver does, and may as well write elsewhere.
class Guest {
public:
    Guest(Ram& ram, std::uint16_t entries, virtio::PackedPosition start) : ram_(ram), entries_(entries), next_(start) {}

    /// True while it is still the guest's turn.
    bool act(Input& input) {
        switch (input.below(8)) {
            case 0:
                return false;
            case 1: {  // any bytes anywhere
                const auto offset = input.take<std::uint16_t>();
                std::size_t i = offset;
                for (const std::byte byte : input.take_bytes(input.below(33)))
                    ram_.mapping.data()[i++ % ram_bytes] = byte;
                break;
            }
            case 2:  // a descriptor that is not the next
                put(input.below(entries_), input);
                break;
            case 3:  // into a table
                put(first_table_slot + input.below(16), input);
                break;
            case 4: {  // one that refers to such a table
                const virtio::PackedDescriptor made{
                    .address = guest_base + 16u * (first_table_slot + input.below(16)),
                    .length_bytes = 16u * input.below(5) + (input.below(16) == 15 ? 1 : 0),
                    .id = input.byte(),
                    .flags = static_cast<std::uint16_t>(virtio::PackedDescriptor::indirect | lap())};
                store(next_.slot, made);
                next_ = next_.after(1, entries_);
                break;
            }
            case 5:
                set_wish(input.take<std::uint32_t>());
                break;
            default:
                put(next_.slot, input);
                next_ = next_.after(1, entries_);
        }
        return !input.empty();
    }

private:
    std::uint16_t lap() const { return virtio::PackedDescriptor::available_in(next_.wrap); }
    void put(std::size_t slot, Input& input) {
        const auto flags = input.byte();
        // Mostly bytes of guest memory, and flags of this lap.
        virtio::PackedDescriptor made{.address = guest_base + 0x2000 + input.take<std::uint16_t>() % 0x6100,
                                      .length_bytes = input.take<std::uint16_t>(),
                                      .id = flags,
                                      .flags = static_cast<std::uint16_t>((flags & 7) | lap())};
        if ((flags & 0x10) == 0) made.flags &= static_cast<std::uint16_t>(~virtio::PackedDescriptor::indirect);
        if ((flags & 0x20) != 0) made.address = input.take<std::uint64_t>();
        if ((flags & 0xc0) == 0xc0) made.flags = input.take<std::uint16_t>();
        store(slot, made);
    }
    void store(std::size_t slot, const virtio::PackedDescriptor& made) {
        std::memcpy(ram_.mapping.data() + sizeof(made) * slot, &made, sizeof(made));
    }
    void set_wish(std::uint32_t wish) { std::memcpy(ram_.mapping.data() + driver_area, &wish, sizeof(wish)); }

    Ram& ram_;
    std::uint16_t entries_;
    virtio::PackedPosition next_;
};

struct Setup {
    std::uint16_t entries;
    bool receives;
    bool indirect;
    bool event_index;
    bool other;  ///< not mergeable, or to be discarded
};

virtio::PackedDeviceRing ring_in(Ram& ram, const Setup& setup, virtio::RingCounters& counters, std::uint32_t base) {
    std::byte* const at = ram.memory.translate(mem::FrontendVirtual{guest_base}, region_bytes);
    return virtio::PackedDeviceRing(
        ram.memory,
        {.entries = setup.entries, .descriptors = at, .available = at + driver_area, .used = at + device_area},
        {.indirect = setup.indirect, .event_index = setup.event_index}, {}, counters, virtio::PackedBase::of(base));
}

void check_base(std::uint32_t raw, std::uint16_t entries) {
    const auto base = virtio::PackedBase::of(raw);
    check(base.available == base.used && base.used.slot < entries);
}

void receive(Ram& ram, const Setup& setup, std::uint32_t base, Guest& guest, Input& input) {
    virtio::ReceiveCounters counters;
    std::optional<virtio::PackedReceiveQueue> queue;
    const auto start = [&](std::uint32_t where) {
        counters.ring_broken = 0;
        queue.emplace(ram.memory, ring_in(ram, setup, counters, where), !setup.other, counters);
    };
    start(base);
    static const std::array<std::byte, 9014> frame{};
    std::uint64_t offered = 0;
    for (unsigned turn = 0; turn < 64 && !input.empty(); ++turn) {
        while (guest.act(input)) {
        }
        for (unsigned burst = input.below(4); burst > 0; --burst) {
            const std::span<const std::byte> whole(frame.data(), input.take<std::uint16_t>() % frame.size());
            const std::array pieces = {whole.first(whole.size() / 3), whole.subspan(whole.size() / 3)};
            queue->deliver(pieces, {});
            ++offered;
        }
        queue->prefetch(input.below(8));
        queue->want_kicks((turn & 1) != 0);
        if (input.below(2) == 0) queue->publish();
        check(counters.frames + counters.rx_no_buffer_tries + counters.rx_oversize + counters.rx_broken_ring ==
              offered);
        check(counters.ring_broken == (queue->broken() ? 1 : 0));
        check_base(queue->base(), setup.entries);
        if (input.below(16) == 15) {
            queue->show();
            start(queue->base());
        }
    }
}

/// Reads all of it, as a NIC would.
void read_all(const virtio::TransmitQueue::Frame& frame) {
    check(frame.length_bytes >= 14 && frame.length_bytes <= most_frame_bytes);
    std::uint32_t sum = 0;
    unsigned touched = 0;
    for (const auto& piece : frame.pieces) {
        sum += piece.length_bytes;
        for (std::uint32_t i = 0; i < piece.length_bytes; ++i) touched += std::to_integer<unsigned>(piece.host[i]);
    }
    check(sum == frame.length_bytes && touched <= sum * 255);
}

void transmit(Ram& ram, const Setup& setup, std::uint32_t base, Guest& guest, Input& input) {
    const auto mode = setup.other ? virtio::TransmitQueue::Mode::discard : virtio::TransmitQueue::Mode::send;
    virtio::TransmitCounters counters;
    std::optional<virtio::PackedTransmitQueue> queue;
    std::uint16_t given_back = 0;
    const auto all_given_back = [&] {
        return static_cast<std::uint16_t>(counters.frames + counters.tx_bad_chain + counters.tx_bad_header +
                                          counters.tx_short + counters.tx_oversize + counters.tx_many_pieces +
                                          counters.tx_disabled);
    };
    const auto start = [&](std::uint32_t where) {
        given_back = all_given_back();
        queue.emplace(ram.memory, ring_in(ram, setup, counters, where), most_frame_bytes, mode, counters);
    };
    start(base);
    for (unsigned turn = 0; turn < 64 && !input.empty(); ++turn) {
        while (guest.act(input)) {
        }
        for (unsigned burst = input.below(8); burst > 0; --burst) {
            const auto frame = queue->next();
            if (!frame) break;
            check(mode == virtio::TransmitQueue::Mode::send);
            read_all(*frame);
        }
        if (input.below(8) == 7) queue->roll_back();
        queue->complete_oldest(queue->in_flight() > 0 ? input.byte() % (queue->in_flight() + 1) : 0);
        queue->want_kicks((turn & 1) != 0);
        if (input.below(2) == 0) queue->publish();
        check(static_cast<std::uint16_t>(queue->used_index() + given_back) == all_given_back());
        check(queue->in_flight() <= setup.entries);
        check_base(queue->base(), setup.entries);
        if (input.below(16) == 15) {
            queue->show();
            start(queue->base());
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Ram ram{region_bytes, 2};
    std::memset(ram.mapping.data(), 0, ram_bytes);
    Input input(data, size);
    const auto flags = input.byte();
    const Setup setup{.entries = static_cast<std::uint16_t>(1 + (flags & 15)),
                      .receives = (flags & 16) != 0,
                      .indirect = (flags & 32) != 0,
                      .event_index = (flags & 64) != 0,
                      .other = (flags & 128) != 0};
    const auto place = input.byte();
    const virtio::PackedPosition start{static_cast<std::uint16_t>((place & 15) % setup.entries), (place & 16) == 0};
    if (!start.wrap || start.slot != 0)  // as an earlier lap left it
        for (std::uint16_t slot = 0; slot < setup.entries; ++slot) {
            const bool lap = slot < start.slot ? start.wrap : !start.wrap;
            const virtio::PackedDescriptor left{0, 0, 0, virtio::PackedDescriptor::used_in(lap)};
            std::memcpy(ram.mapping.data() + sizeof(left) * slot, &left, sizeof(left));
        }
    Guest guest(ram, setup.entries, start);
    const std::uint32_t base = virtio::PackedBase{start, start}.raw();
    if (setup.receives)
        receive(ram, setup, base, guest, input);
    else
        transmit(ram, setup, base, guest, input);
    return 0;
}
