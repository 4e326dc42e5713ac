#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/guest_ring.hpp"
#include "virtio/packed_ring.hpp"

namespace vitrine::test {

/// A driver's packed ring, as strict as a driver may be. It counts slots and laps by itself: of the product it takes
/// the layouts alone. Chains must come back in order under their names, with lengths that their buffers have, and every
/// descriptor that is not the device's to read is spoilt.
class PackedGuestRing {
public:
    using Buffer = GuestRing::Buffer;
    using Descriptor = virtio::PackedDescriptor;
    struct Used {
        std::vector<Buffer> buffers;
        std::uint32_t written_bytes;
    };
    static constexpr std::uint16_t available_bit = 1u << 7;
    static constexpr std::uint16_t used_bit = 1u << 15;
    static constexpr std::uint16_t lap_bit = 1u << 15;  ///< of a position, as event areas and bases have it

    /// The ring lies at `offset` (4096-byte aligned) of `ram`, event areas and indirect tables behind it. Both sides
    /// begin at `start`: a slot, and the wrap counter in bit 15.
    PackedGuestRing(GuestRam& ram, std::uint64_t offset, std::uint16_t entries, std::uint16_t start = lap_bit)
        : ram_(ram), offset_(offset), entries_(entries), posted_(start & ~lap_bit), seen_(posted_) {
        if ((start & lap_bit) == 0) {  // an odd lap
            posted_ += entries;
            seen_ += entries;
        }
        for (std::uint32_t slot = 0; slot < entries; ++slot)  // as the lap before, or this one, has left it
            spoil(slot < seen_ % entries_ ? seen_ - seen_ % entries_ + slot
                                          : seen_ - seen_ % entries_ + slot + entries_);
    }

    /// How much of the RAM it takes.
    std::size_t bytes() const { return indirect_offset(entries_) - offset_; }
    std::uint64_t driver_area() const { return (offset_ + sizeof(Descriptor) * entries_ + 63) & ~std::uint64_t{63}; }
    std::uint64_t device_area() const { return driver_area() + 64; }
    /// Each slot has a table of 32 descriptors of its own.
    std::uint64_t indirect_offset(std::uint32_t slot) const { return device_area() + 64 + 512u * slot; }

    virtio::RingMemory where(const virtio::GuestMemory& memory) const {
        const auto host = [&](std::uint64_t offset, std::size_t size) {
            return memory.translate(mem::FrontendVirtual{GuestRam::user_base + offset}, size);
        };
        return {.entries = entries_,
                .descriptors = host(offset_, sizeof(Descriptor) * entries_),
                .available = host(driver_area(), 4),
                .used = host(device_area(), 4)};
    }

    std::uint16_t entries() const { return entries_; }
    std::size_t free_slots() const { return entries_ - (posted_ - seen_); }
    std::size_t outstanding() const { return outstanding_.size(); }
    /// Where the next chain goes, and where the next used one is looked for; wrap counter in bit 15.
    std::uint16_t posted() const { return place(posted_); }
    std::uint16_t seen() const { return place(seen_); }
    /// `slots` behind where the next chain goes.
    std::uint16_t posted_after(std::uint32_t slots) const { return place(posted_ + slots); }
    std::uint16_t seen_after(std::uint32_t slots) const { return place(seen_ + slots); }
    /// The bits that make a descriptor available where the next chain goes, `ahead` slots on.
    std::uint16_t available_flags(std::uint32_t ahead = 0) const {
        return in_even_lap(posted_ + ahead) ? available_bit : used_bit;
    }

    Descriptor descriptor(std::uint32_t slot) const {
        Descriptor copy;
        std::memcpy(&copy, at(slot), sizeof(copy));
        return copy;
    }
    void set_descriptor(std::uint32_t slot, const Descriptor& wanted) {
        std::memcpy(at(slot), &wanted, offsetof(Descriptor, flags));
        flags(slot).store(wanted.flags, std::memory_order_release);
    }
    /// One descriptor with these flags beside the lap's, good or bad, in the next slot; the device sees it at once.
    void post_raw(std::uint64_t address, std::uint32_t length_bytes, std::uint16_t id, std::uint16_t more_flags) {
        set_descriptor(posted_ % entries_, {.address = address,
                                            .length_bytes = length_bytes,
                                            .id = id,
                                            .flags = static_cast<std::uint16_t>(available_flags() | more_flags)});
        ++posted_;
    }

    /// Posts one chain, its first flags last. Room for it is the caller's to check. Its name is none of a slot's.
    void post(const std::vector<Buffer>& buffers, bool device_writes, bool indirect = false) {
        const std::size_t slots = indirect ? 1 : buffers.size();
        REQUIRE(free_slots() >= slots);
        const auto id = static_cast<std::uint16_t>(next_id_);
        next_id_ += 0x2f1b;
        const std::uint16_t writes = device_writes ? Descriptor::device_writes : 0;
        if (indirect) {
            const std::uint64_t table = indirect_offset(posted_ % entries_);
            for (std::size_t i = 0; i < buffers.size(); ++i) {
                const Descriptor inner{.address = GuestRam::guest_base + buffers[i].offset,
                                       .length_bytes = buffers[i].length_bytes,
                                       .id = 0xbeef,
                                       .flags = writes};
                std::memcpy(ram_.at(table + sizeof(inner) * i), &inner, sizeof(inner));
            }
            outstanding_.push_back({id, 1, buffers, device_writes});
            post_raw(GuestRam::guest_base + table, static_cast<std::uint32_t>(sizeof(Descriptor) * buffers.size()), id,
                     Descriptor::indirect);
            return;
        }
        for (std::size_t left = slots; left > 0; --left) {
            const auto i = static_cast<std::uint32_t>(left - 1);
            const bool last = left == slots;
            set_descriptor(
                (posted_ + i) % entries_,
                {.address = GuestRam::guest_base + buffers[i].offset,
                 .length_bytes = buffers[i].length_bytes,
                 .id = last ? id : static_cast<std::uint16_t>(~id),  // only the last one's counts
                 .flags = static_cast<std::uint16_t>(available_flags(i) | writes | (last ? 0 : Descriptor::has_next))});
        }
        outstanding_.push_back({id, static_cast<std::uint32_t>(slots), buffers, device_writes});
        posted_ += static_cast<std::uint32_t>(slots);
    }

    bool has_used() const {
        const std::uint16_t both = in_even_lap(seen_) ? available_bit | used_bit : 0;
        return (flags(seen_ % entries_).load(std::memory_order_acquire) & (available_bit | used_bit)) == both;
    }
    /// The next chain that the device gave back, checked; none when there is no news.
    std::optional<Used> take_used() {
        if (posted_ == seen_ || !has_used()) return std::nullopt;
        REQUIRE(!outstanding_.empty());
        Chain chain = std::move(outstanding_.front());
        outstanding_.pop_front();
        const Descriptor element = descriptor(seen_ % entries_);
        REQUIRE(element.id == chain.id);
        std::uint64_t room = 0;
        for (const Buffer& buffer : chain.buffers) room += chain.device_writes ? buffer.length_bytes : 0;
        REQUIRE(element.length_bytes <= room);
        REQUIRE(((element.flags & Descriptor::device_writes) != 0) == (element.length_bytes != 0));
        REQUIRE((element.flags & (Descriptor::has_next | Descriptor::indirect)) == 0);
        for (std::uint32_t i = 0; i < chain.slots; ++i) spoil(seen_++);
        return Used{std::move(chain.buffers), element.length_bytes};
    }
    /// A frame from a receive ring with its header taken off; none when there is no news. All its buffers must be there
    /// and all but the last be full (VIRTIO 1.3, 5.1.6.4).
    std::optional<std::vector<std::byte>> take_frame() {
        std::optional<Used> used = take_used();
        if (!used) return std::nullopt;
        std::vector<std::byte> bytes = written(*used);
        REQUIRE(bytes.size() >= sizeof(virtio::NetHeader));
        std::memcpy(&last_header, bytes.data(), sizeof(last_header));
        REQUIRE(last_header.buffers >= 1);
        for (unsigned left = last_header.buffers - 1u; left > 0; --left) {
            std::uint64_t room = 0;
            for (const Buffer& buffer : used->buffers) room += buffer.length_bytes;
            REQUIRE(used->written_bytes == room);
            used = take_used();
            REQUIRE(used.has_value());
            REQUIRE(used->written_bytes > 0);
            const auto more = written(*used);
            bytes.insert(bytes.end(), more.begin(), more.end());
        }
        bytes.erase(bytes.begin(), bytes.begin() + sizeof(virtio::NetHeader));
        return bytes;
    }
    virtio::NetHeader last_header;

    /// What the driver wants to be called for; `raw_flags` as they lie in memory.
    void set_events(std::uint16_t raw_flags, std::uint16_t position = 0) {
        std::atomic_ref(*reinterpret_cast<std::uint32_t*>(ram_.at(driver_area())))
            .store(position | std::uint32_t{raw_flags} << 16, std::memory_order_seq_cst);
    }
    /// Whether the device wants to be kicked for anything.
    bool device_wants_kick() const {
        const std::uint32_t area =
            std::atomic_ref(*reinterpret_cast<std::uint32_t*>(ram_.at(device_area()))).load(std::memory_order_seq_cst);
        return area >> 16 != 1;
    }

private:
    struct Chain {
        std::uint16_t id;
        std::uint32_t slots;
        std::vector<Buffer> buffers;
        bool device_writes;
    };

    std::byte* at(std::uint32_t slot) const { return ram_.at(offset_ + sizeof(Descriptor) * slot); }
    std::atomic_ref<std::uint16_t> flags(std::uint32_t slot) const {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(at(slot) + offsetof(Descriptor, flags)));
    }
    /// Laps are counted from an even one, whose wrap counter is 1.
    bool in_even_lap(std::uint32_t count) const { return count / entries_ % 2 == 0; }
    std::uint16_t place(std::uint32_t count) const {
        return static_cast<std::uint16_t>(count % entries_ | (in_even_lap(count) ? lap_bit : 0));
    }
    /// What was used: its two bits stay equal, nothing else does.
    void spoil(std::uint32_t count) {
        set_descriptor(count % entries_, {.address = 0xdead'dead'dead'dead,
                                          .length_bytes = 0xffff'ffff,
                                          .id = 0xffff,
                                          .flags = static_cast<std::uint16_t>(in_even_lap(count) ? 0xffff : 0x7f7f)});
    }
    std::vector<std::byte> written(const Used& used) const {
        std::vector<std::byte> bytes;
        for (const Buffer& buffer : used.buffers) {
            const std::size_t count = std::min<std::size_t>(buffer.length_bytes, used.written_bytes - bytes.size());
            bytes.insert(bytes.end(), ram_.at(buffer.offset), ram_.at(buffer.offset) + count);
        }
        return bytes;
    }

    GuestRam& ram_;
    std::uint64_t offset_;
    std::uint16_t entries_;
    std::uint32_t posted_;  ///< slots, from the first of an even lap on
    std::uint32_t seen_;
    std::uint32_t next_id_ = 0xa5a5;
    std::deque<Chain> outstanding_;
};

}  // namespace vitrine::test
