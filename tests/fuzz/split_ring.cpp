/// A guest that writes what it likes into its memory while the device walks its rings. The input is a list of stores
/// into guest RAM with device turns between them. Nothing may be touched outside guest memory, every chain that comes
/// back is counted once, and no turn is without end.

#include <array>
#include <cstring>

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
constexpr std::size_t available_offset = 0x1000;
constexpr std::size_t used_offset = 0x2000;

struct Store {
    std::uint16_t offset;
    std::uint8_t bytes;
};

void store(Ram& ram, Input& input) {
    const auto where = input.take<Store>();
    for (std::uint8_t i = 0; i < where.bytes % 33; ++i)
        ram.mapping.data()[(where.offset + i) % ram_bytes] = input.take<std::byte>();
}

virtio::DeviceRing ring_in(Ram& ram, std::uint8_t setup, virtio::RingCounters& counters) {
    std::byte* const base = ram.memory.translate(mem::FrontendVirtual{guest_base}, region_bytes);
    return virtio::DeviceRing(ram.memory,
                              {.entries = static_cast<std::uint16_t>(1u << (setup & 7)),
                               .descriptors = base,
                               .available = base + available_offset,
                               .used = base + used_offset},
                              {.indirect = (setup & 8) != 0, .event_index = (setup & 16) != 0}, {}, counters);
}

void receive(Ram& ram, std::uint8_t setup, Input& input) {
    virtio::ReceiveCounters counters;
    virtio::ReceiveQueue queue(ram.memory, ring_in(ram, setup, counters), (setup & 32) != 0, counters);
    static const std::array<std::byte, 9014> frame{};
    std::uint64_t offered = 0;
    for (unsigned turn = 0; turn < 64 && !input.empty(); ++turn) {
        store(ram, input);
        const std::span<const std::byte> whole(frame.data(), input.take<std::uint16_t>() % frame.size());
        const std::array pieces = {whole.first(whole.size() / 3), whole.subspan(whole.size() / 3)};
        queue.deliver(pieces, {});
        ++offered;
        queue.want_kicks((turn & 1) != 0);
        queue.publish();
        check(counters.frames + counters.rx_no_buffer_tries + counters.rx_oversize + counters.rx_broken_ring ==
              offered);
        check(counters.ring_broken == (queue.broken() ? 1 : 0));
    }
}

void transmit(Ram& ram, std::uint8_t setup, Input& input) {
    virtio::TransmitCounters counters;
    const auto mode = (setup & 32) != 0 ? virtio::TransmitQueue::Mode::discard : virtio::TransmitQueue::Mode::send;
    virtio::TransmitQueue queue(ram.memory, ring_in(ram, setup, counters), 1518, mode, counters);
    const std::uint16_t start = queue.used_index();
    for (unsigned turn = 0; turn < 64 && !input.empty(); ++turn) {
        store(ram, input);
        for (unsigned burst = input.take<std::uint8_t>() % 8; burst > 0; --burst) {
            const auto frame = queue.next();
            if (!frame) break;
            check(mode == virtio::TransmitQueue::Mode::send);
            check(frame->length_bytes >= 14 && frame->length_bytes <= 1518);
            std::uint32_t sum = 0;
            unsigned touched = 0;
            for (const auto& piece : frame->pieces) {
                sum += piece.length_bytes;
                for (std::uint32_t i = 0; i < piece.length_bytes; ++i)
                    touched += std::to_integer<unsigned>(piece.host[i]);
            }
            check(sum == frame->length_bytes && touched <= sum * 255);
        }
        if (input.take<std::uint8_t>() % 8 == 0) queue.roll_back();
        queue.complete_oldest(queue.in_flight() > 0 ? input.take<std::uint8_t>() % (queue.in_flight() + 1) : 0);
        queue.want_kicks((turn & 1) != 0);
        queue.publish();
        const std::uint64_t given_back = counters.frames + counters.tx_bad_chain + counters.tx_bad_header +
                                         counters.tx_short + counters.tx_oversize + counters.tx_many_pieces +
                                         counters.tx_disabled;
        check(static_cast<std::uint16_t>(queue.used_index() - start) == static_cast<std::uint16_t>(given_back));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Ram ram{region_bytes, 2};
    std::memset(ram.mapping.data(), 0, ram_bytes);
    Input input(data, size);
    const auto setup = input.take<std::uint8_t>();
    // First the guest's memory as it begins, in up to eight stores.
    for (unsigned stores = input.take<std::uint8_t>() % 9; stores > 0; --stores) store(ram, input);
    if ((setup & 64) != 0)
        receive(ram, setup, input);
    else
        transmit(ram, setup, input);
    return 0;
}
