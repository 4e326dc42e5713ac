#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"
#include "mem/region_layout.hpp"
#include "mem/test_frame.hpp"
#include "virtio/net_header.hpp"

namespace vitrine::guest {

/// The device's packet pages as a guest sees them: mapped once, read-only (docs/vrx.md, 2).
class PageRegion {
public:
    /// Maps the whole file. Throws std::system_error (EPROTO) that says what is unsound about it.
    explicit PageRegion(const mem::FileDescriptor& file);
    /// Maps a piece of a file in which there is more, and which is therefore no business of others: file() is none.
    PageRegion(const mem::FileDescriptor& file, std::uint64_t offset, std::size_t bytes);

    const mem::RegionLayout& layout() const { return layout_; }
    /// As found at the start.
    const mem::InfoPage& info() const { return info_; }
    std::uint32_t tag() const { return mem::region_tag(info_.instance); }

    std::span<const std::byte> bytes() const { return mapping_.bytes(); }
    /// Opened read-only: for a process that may read along. -1: there is none for others.
    int file() const { return file_.get(); }
    std::span<const std::byte> page(std::uint32_t page) const noexcept {
        return {mapping_.data() + layout_.pages_offset + page * layout_.page_bytes, layout_.page_bytes};
    }
    virtio::NetHeader header(std::uint32_t page) const noexcept {
        virtio::NetHeader header;
        std::memcpy(&header, mapping_.data() + layout_.headers_offset + mem::header_slot_bytes * page, sizeof(header));
        return header;
    }
    /// For readers beside the driver: pages read between two equal answers were the ones that they were told of (7.4).
    std::uint32_t generation(unsigned queue) const noexcept {
        auto& live = reinterpret_cast<mem::InfoPage*>(mapping_.data())->generation[queue];
        std::atomic_thread_fence(std::memory_order_acquire);
        return std::atomic_ref(live).load(std::memory_order_acquire);
    }

private:
    mem::FileDescriptor file_;
    mem::Mapping mapping_;
    mem::InfoPage info_;
    mem::RegionLayout layout_;
};

}  // namespace vitrine::guest
