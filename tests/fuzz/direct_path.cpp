/// A guest that writes what it likes into an OFFSET ring whose buffers a NIC fills, while that NIC says what it likes
/// of them, rings stop and start, and memory goes. No buffer reaches the NIC that is not whole in memory that it may
/// write; no used element is put for a buffer that it may still write; and every frame is in one counter.

#include "apps/vitrine/direct_path.hpp"

#include <array>
#include <cstring>
#include <optional>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/input.hpp"

using namespace vitrine;
using driver::RxDone;
using fuzz::check;
using fuzz::Input;

namespace {

constexpr std::size_t region_bytes = 0x8000;
constexpr std::size_t available_offset = 0x1000;
constexpr std::size_t used_offset = 0x2000;
constexpr std::uint32_t buffer_bytes = 2176;
constexpr std::uint32_t nic_bytes = 2048;
/// Ring and buffers, and a second region behind a gap that comes and goes.
constexpr std::array<std::uint64_t, 2> guest_base{0x1000, 0x10000};
constexpr std::array<mem::Iova, 2> iova_base{mem::Iova{0x5'0000'0000}, mem::Iova{0x6'0000'0000}};

/// Guest RAM, made once: mappings are too slow for each input.
struct Ram {
    Ram() {
        for (unsigned region = 0; region < 2; ++region) {
            files[region] = mem::FileDescriptor(::memfd_create("guest", MFD_CLOEXEC));
            check(files[region] && ::ftruncate(files[region].get(), region_bytes) == 0);
            mappings[region] = mem::Mapping(files[region].get(), region_bytes, 0, mem::Access::read_write);
            map(region);
        }
    }
    void map(unsigned region) {
        check(memory
                  .add({.guest_address = guest_base[region],
                        .size_bytes = region_bytes,
                        .user_address = guest_base[region],
                        .mmap_offset = 0},
                       mem::duplicate(files[region].get()))
                  .has_value());
        memory.set_iova(mem::GuestPhys{guest_base[region]}, iova_base[region]);
    }
    bool has_both() const { return memory.regions().size() == 2; }

    std::array<mem::FileDescriptor, 2> files;
    std::array<mem::Mapping, 2> mappings;
    virtio::GuestMemory memory;
};

class World {
public:
    World(Ram& ram, std::uint8_t setup)
        : ram_(ram), entries_(static_cast<std::uint16_t>(2u << (setup & 3))), mergeable_((setup & 4) != 0) {
        begin();
    }

    void poll() {
        path_.poll();
        look();
    }
    /// Of the oldest buffer: anything may be said of it, and all of it is written.
    void nic_finishes(std::uint16_t length_bytes, std::uint8_t what) {
        if (head_ == tail_) return;
        driver::RxDescriptor& slot = slots_[head_];
        check(slot.done == 0);
        const unsigned region = slot.page_iova >= iova_base[1].raw ? 1 : 0;
        const std::uint64_t offset = slot.page_iova - iova_base[region].raw;
        // What an IOMMU would say.
        check((region == 0 || ram_.has_both()) && offset < region_bytes && region_bytes - offset >= nic_bytes);
        check(slot.page_iova % 2 == 0);
        std::memset(ram_.mappings[region].data() + offset, what, nic_bytes);
        slot = {.page_iova = ~std::uint64_t{0},
                .done = RxDone{}
                            .with(RxDone::done, 1)
                            .with(RxDone::end_of_packet, what & 1)
                            .with(RxDone::mac_error, (what & 6) == 6)
                            .with(RxDone::length_bytes, length_bytes)
                            .raw};
        head_ = (head_ + 1) % slots_.size();
        ++finished_;
        frames_ += !inside_frame_;
        inside_frame_ = (what & 1) == 0;
    }
    /// The ring stops and starts, and the NIC's queue with it; in between, or not, by copy.
    void restart(std::uint8_t what) {
        end();
        if ((what & 2) != 0) {
            const std::array<std::byte, 100> frame{};
            const std::span<const std::byte> whole(frame);
            if (queue_->deliver({&whole, 1}, {}) == virtio::Delivery::delivered) ++copied_;
            queue_->show();
        }
        if ((what & 4) != 0 && ram_.has_both()) {
            queue_.reset();
            ram_.memory.remove(ram_.memory.regions().back());
        } else if ((what & 4) != 0) {
            ram_.map(1);
        }
        begin();
    }
    void end() {
        path_.detach();
        look();
        head_ = tail_;  // the queue is off, and has forgotten everything
        check(received_.frames_from_nic <= frames_);
        check(received_.frames_from_nic ==
              received_.direct + received_.drop_nic_error + received_.drop_too_small + received_.drop_ring_broken);
        check(counters_.frames == received_.direct + copied_);
    }

private:
    void begin() {
        std::byte* const base = ram_.memory.translate(mem::FrontendVirtual{guest_base[0]}, region_bytes);
        const virtio::DeviceRing ring(ram_.memory,
                                      {.entries = entries_,
                                       .descriptors = base,
                                       .available = base + available_offset,
                                       .used = base + used_offset},
                                      {.indirect = false, .event_index = true}, {}, counters_);
        queue_.emplace(ram_.memory, ring, buffer_bytes, mergeable_, counters_);
        head_ = tail_ = 0;
        nic_.emplace(slots_, driver::Doorbell(&tail_), nic_bytes);
        path_.attach(*nic_, *queue_);
        used_before_ = queue_->used_index();
        finished_ = 0;
        inside_frame_ = false;
    }
    void look() const {
        check(static_cast<std::uint16_t>(queue_->used_index() - used_before_) <= finished_);
        check(nic_->armed() < slots_.size());
    }

    Ram& ram_;
    std::uint16_t entries_;
    bool mergeable_;
    virtio::ReceiveCounters counters_;
    std::optional<virtio::OffsetQueue> queue_;
    alignas(128) std::array<driver::RxDescriptor, 8> slots_{};
    std::uint32_t head_ = 0, tail_ = 0;
    std::optional<driver::BufferRing> nic_;
    apps::ReceivePathCounters received_;
    apps::DirectPath path_{received_};
    std::uint16_t used_before_ = 0;
    bool inside_frame_ = false;
    std::uint64_t finished_ = 0, frames_ = 0, copied_ = 0;
};

/// One store of the guest: anywhere, or where it matters most.
void store(Ram& ram, std::uint16_t entries, Input& input) {
    const auto put = [&](std::size_t offset, auto value) {
        std::memcpy(ram.mappings[0].data() + offset % (region_bytes - sizeof(value)), &value, sizeof(value));
    };
    const auto post = [&](std::uint16_t head, const virtio::Descriptor& descriptor) {
        std::uint16_t credits = 0;
        std::memcpy(&credits, ram.mappings[0].data() + available_offset + 2, sizeof(credits));
        put(16u * head, descriptor);
        put(available_offset + 4 + 2u * (credits % entries), head);
        put(available_offset + 2, static_cast<std::uint16_t>(credits + 1));
    };
    const virtio::Descriptor good{.address = guest_base[input.below(2)] + 0x3000 + 2176u * input.below(8),
                                  .length_bytes = buffer_bytes,
                                  .flags = virtio::Descriptor::device_writes,
                                  .next = 0};
    switch (input.below(8)) {
        case 0:
            put(input.take<std::uint16_t>(), input.take<std::uint32_t>());
            break;
        case 1:
            put(available_offset + 2, input.take<std::uint16_t>());
            break;
        case 2:
            put(used_offset + 2u * input.below(2), input.take<std::uint16_t>());
            break;
        case 3:
            post(input.byte(), good);  // any head, whoever has it
            break;
        case 4:
            post(static_cast<std::uint16_t>(input.byte() % entries),
                 {input.take<std::uint32_t>(), buffer_bytes, input.byte(), input.byte()});
            break;
        default:
            post(static_cast<std::uint16_t>(input.byte() % (entries - 1)), good);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Ram ram;
    for (const mem::Mapping& mapping : ram.mappings) std::memset(mapping.data(), 0, region_bytes);
    if (!ram.has_both()) ram.map(1);
    Input input(data, size);
    const auto setup = input.byte();
    const auto entries = static_cast<std::uint16_t>(2u << (setup & 3));
    World world(ram, setup);
    for (unsigned turn = 0; turn < 256 && !input.empty(); ++turn) {
        switch (input.below(8)) {
            case 0:
                world.restart(input.byte());
                break;
            case 1:
            case 2:
                world.poll();
                break;
            case 3:
            case 4:
                world.nic_finishes(input.take<std::uint16_t>(), input.byte());
                break;
            default:
                store(ram, entries, input);
        }
    }
    world.end();
    return 0;
}
