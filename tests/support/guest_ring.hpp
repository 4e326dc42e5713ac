#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <span>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"
#include "virtio/device_ring.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/net_header.hpp"
#include "virtio/split_ring.hpp"

/// The driver side of the tests: guest RAM, and a driver that is as strict as a driver may be.
namespace vitrine::test {

/// Guest RAM in a memfd. Tests use their own mapping of it, the device another, as in life.
class GuestRam {
public:
    static constexpr std::uint64_t guest_base = 0x10'0000;
    static constexpr std::uint64_t user_base = 0x7000'0000'0000;

    explicit GuestRam(std::size_t bytes) : file_(::memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
        REQUIRE(::ftruncate(file_.get(), static_cast<off_t>(bytes)) == 0);
        mapping_ = mem::Mapping(file_.get(), bytes, 0, mem::Access::read_write);
    }

    int file() const { return file_.get(); }
    std::span<std::byte> bytes() const { return mapping_.bytes(); }
    std::byte* at(std::uint64_t offset) const { return mapping_.data() + offset; }
    /// The RAM from `offset` on as the front-end would announce it, `gap` bytes further up in guest addresses.
    virtio::vhost_user::MemoryRegion region(std::uint64_t offset, std::uint64_t bytes, std::uint64_t gap = 0) const {
        return {.guest_address = guest_base + offset + gap,
                .size_bytes = bytes,
                .user_address = user_base + offset + gap,
                .mmap_offset = offset};
    }
    virtio::vhost_user::MemoryRegion whole() const { return region(0, mapping_.size()); }
    void announce_to(virtio::GuestMemory& memory, const virtio::vhost_user::MemoryRegion& wanted) const {
        REQUIRE(memory.add(wanted, mem::duplicate(file_.get())).has_value());
    }

private:
    mem::FileDescriptor file_;
    mem::Mapping mapping_;
};

/// Where the device finds a ring whose three parts lie at these offsets of the RAM.
inline virtio::RingMemory ring_memory(const virtio::GuestMemory& memory, std::uint16_t entries,
                                      std::uint64_t descriptors, std::uint64_t available, std::uint64_t used) {
    const auto host = [&](std::uint64_t offset, std::size_t size) {
        return memory.translate(mem::FrontendVirtual{GuestRam::user_base + offset}, size);
    };
    return {.entries = entries,
            .descriptors = host(descriptors, virtio::descriptor_table_bytes(entries)),
            .available = host(available, virtio::available_ring_bytes(entries)),
            .used = host(used, virtio::used_ring_bytes(entries))};
}

/// A driver's split ring. It checks that chains come back in order, with lengths that their buffers have, and spoils
/// every descriptor that is not the device's to read.
class GuestRing {
public:
    struct Buffer {
        std::uint64_t offset;  ///< in guest RAM
        std::uint32_t length_bytes;
    };
    struct Used {
        std::vector<Buffer> buffers;
        std::uint32_t written_bytes;
    };

    /// The ring lies at `offset` (4096-byte aligned) of `ram`, its indirect tables behind it; both indices begin at
    /// `start`.
    GuestRing(GuestRam& ram, std::uint64_t offset, std::uint16_t entries, std::uint16_t start = 0)
        : ram_(ram), offset_(offset), entries_(entries), posted_(start), seen_(start) {
        for (std::uint16_t index = 0; index < entries; ++index) free_.push_back(index);
        set_u16(available_offset() + 2, start);
        set_u16(used_offset() + 2, start);
        for (std::uint16_t index = 0; index < entries; ++index) spoil(index);
    }

    /// How much of the RAM it takes.
    std::size_t bytes() const { return indirect_offset(entries_) - offset_; }
    std::uint64_t available_offset() const { return offset_ + virtio::descriptor_table_bytes(entries_); }
    std::uint64_t used_offset() const {
        return (available_offset() + virtio::available_ring_bytes(entries_) + 3) & ~3u;
    }
    /// Each head has a table of 32 descriptors of its own.
    std::uint64_t indirect_offset(std::uint16_t head) const {
        return ((used_offset() + virtio::used_ring_bytes(entries_) + 15) & ~15u) + 512u * head;
    }

    virtio::RingMemory where(const virtio::GuestMemory& memory) const {
        return ring_memory(memory, entries_, offset_, available_offset(), used_offset());
    }

    std::size_t free_descriptors() const { return free_.size(); }
    std::size_t outstanding() const { return outstanding_.size(); }
    std::uint16_t posted() const { return posted_; }

    void set_descriptor(std::uint16_t index, const virtio::Descriptor& descriptor) {
        std::memcpy(ram_.at(offset_ + sizeof(descriptor) * index), &descriptor, sizeof(descriptor));
    }
    /// Puts a head into the available ring, good or bad, without showing it.
    void set_available(std::uint16_t position, std::uint16_t head) {
        set_u16(available_offset() + 4 + 2u * (position % entries_), head);
    }
    void set_available_index(std::uint16_t index) { set_u16(available_offset() + 2, index); }

    /// Posts one chain; room for it in the ring is the caller's to check. Seen by the device at once.
    void post(const std::vector<Buffer>& buffers, bool device_writes, bool indirect = false) {
        std::vector<std::uint16_t> indices(indirect ? 1 : buffers.size());
        REQUIRE(free_.size() >= indices.size());
        for (auto& index : indices) {
            index = free_.front();
            free_.pop_front();
        }
        const std::uint16_t flags = device_writes ? virtio::Descriptor::device_writes : 0;
        for (std::size_t i = 0; i < buffers.size(); ++i) {
            const bool last = i + 1 == buffers.size();
            const auto next = static_cast<std::uint16_t>(last ? 0xffff : indirect ? i + 1 : indices[i + 1]);
            const virtio::Descriptor descriptor{
                .address = GuestRam::guest_base + buffers[i].offset,
                .length_bytes = buffers[i].length_bytes,
                .flags = static_cast<std::uint16_t>(flags | (last ? 0 : virtio::Descriptor::has_next)),
                .next = next};
            if (indirect)
                std::memcpy(ram_.at(indirect_offset(indices[0]) + sizeof(descriptor) * i), &descriptor,
                            sizeof(descriptor));
            else
                set_descriptor(indices[i], descriptor);
        }
        if (indirect)
            set_descriptor(indices[0],
                           {.address = GuestRam::guest_base + indirect_offset(indices[0]),
                            .length_bytes = static_cast<std::uint32_t>(sizeof(virtio::Descriptor) * buffers.size()),
                            .flags = virtio::Descriptor::indirect,
                            .next = 0xffff});
        set_available(posted_, indices[0]);
        outstanding_.push_back({indices, buffers, device_writes});
        set_available_index(++posted_);
    }

    std::uint16_t used_index() const { return get_u16(used_offset() + 2); }
    /// The next chain that the device gave back, checked; none when there is no news.
    std::optional<Used> take_used() {
        if (used_index() == seen_) return std::nullopt;
        REQUIRE(static_cast<std::uint16_t>(used_index() - seen_) <= outstanding_.size());
        virtio::UsedElement element;
        std::memcpy(&element, ram_.at(used_offset() + 4 + sizeof(element) * (seen_ % entries_)), sizeof(element));
        ++seen_;
        Chain chain = std::move(outstanding_.front());
        outstanding_.pop_front();
        REQUIRE(element.head == chain.indices.front());
        std::uint64_t room = 0;
        for (const Buffer& buffer : chain.buffers) room += chain.device_writes ? buffer.length_bytes : 0;
        REQUIRE(element.written_bytes <= room);
        for (const std::uint16_t index : chain.indices) {
            spoil(index);
            free_.push_back(index);
        }
        return Used{std::move(chain.buffers), element.written_bytes};
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

    void set_used_event(std::uint16_t event) {
        set_u16(available_offset() + virtio::used_event_offset(entries_), event);
    }
    void set_no_interrupt(bool on) { set_u16(available_offset(), on ? virtio::available_no_interrupt : 0); }
    std::uint16_t available_event() const { return get_u16(used_offset() + virtio::available_event_offset(entries_)); }
    std::uint16_t used_flags() const { return get_u16(used_offset()); }

private:
    struct Chain {
        std::vector<std::uint16_t> indices;
        std::vector<Buffer> buffers;
        bool device_writes;
    };

    std::vector<std::byte> written(const Used& used) const {
        std::vector<std::byte> bytes;
        for (const Buffer& buffer : used.buffers) {
            const std::size_t count = std::min<std::size_t>(buffer.length_bytes, used.written_bytes - bytes.size());
            bytes.insert(bytes.end(), ram_.at(buffer.offset), ram_.at(buffer.offset) + count);
        }
        return bytes;
    }
    void spoil(std::uint16_t index) {
        set_descriptor(
            index, {.address = 0xdead'dead'dead'dead, .length_bytes = 0xffff'ffff, .flags = 0xffff, .next = 0xffff});
    }
    void set_u16(std::uint64_t offset, std::uint16_t value) {
        std::atomic_ref(*reinterpret_cast<std::uint16_t*>(ram_.at(offset))).store(value, std::memory_order_release);
    }
    std::uint16_t get_u16(std::uint64_t offset) const {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(ram_.at(offset))).load(std::memory_order_acquire);
    }

    GuestRam& ram_;
    std::uint64_t offset_;
    std::uint16_t entries_;
    std::uint16_t posted_;
    std::uint16_t seen_;
    std::deque<std::uint16_t> free_;
    std::deque<Chain> outstanding_;
};

}  // namespace vitrine::test
