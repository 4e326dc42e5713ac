#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"
#include "mem/page_ledger.hpp"
#include "mem/region_layout.hpp"

namespace vitrine::mem {

/// The region of one device as a named file, with the private ledger beside it (docs/vrx.md, 2 and 7.5).
///
/// It has a name because a restarted process must find the very pages that the guest still holds. The file is ours
/// alone to write, mode 0640; the VMM opens it read-only by its group, or is given read_only_view(). A file that is
/// there is taken again only if the ledger names it; else it is replaced.
class PacketRegion {
public:
    struct Config {
        std::string path;         ///< on hugetlbfs or tmpfs
        std::string ledger_path;  ///< on a file system in memory, in a directory of our own
        std::size_t wanted_pages = 0;
        std::size_t page_bytes = 2048;
        unsigned queues = 1;
        std::uint32_t held_limit = 0;  ///< for each queue
    };

    /// Throws std::system_error naming what failed: EBUSY when another process uses the ledger, EPERM when a file of
    /// somebody else has the name, EINVAL when the path is on a disk.
    explicit PacketRegion(const Config& config);

    /// The pages that a former process lent are still lent. Else the region is new and zero.
    bool reopened() const { return reopened_; }
    const RegionLayout& layout() const { return layout_; }
    const std::array<std::uint8_t, 16>& instance() const { return ledger_.identity().instance; }
    PageLedger& ledger() { return ledger_; }

    InfoPage& info() { return *reinterpret_cast<InfoPage*>(mapping_.data()); }
    std::span<std::byte> headers() const {
        return mapping_.bytes().subspan(layout_.headers_offset, layout_.page_count * header_slot_bytes);
    }
    std::span<std::byte> pages() const {
        return mapping_.bytes().subspan(layout_.pages_offset, layout_.page_count * layout_.page_bytes);
    }
    int file() const { return file_.get(); }
    /// What the NIC may write: the pages, and what the file has behind them.
    std::span<std::byte> dma_bytes() const { return mapping_.bytes().subspan(layout_.pages_offset); }
    /// The granularity of mappings of the file.
    std::size_t file_page_bytes() const { return file_page_bytes_; }
    FileDescriptor read_only_view() const;

    /// Tells drivers that the device with this address has these modes (InfoPage). Until then none is offered.
    void offer(const std::array<std::uint8_t, 6>& mac, std::uint32_t modes) noexcept;
    /// A clean end: nothing is offered any more, and no file is left.
    void withdraw() noexcept;
    /// Removes both files of a process that was killed. Throws std::system_error: EBUSY while one uses them, EPERM when
    /// they are somebody else's.
    static void remove(const std::string& path, const std::string& ledger_path);

private:
    bool reopen(const Config& config);
    void create(const Config& config);
    void describe(const Config& config);
    PageLedger::Identity identity_of(const FileDescriptor& file) const;

    std::string path_;
    std::string ledger_path_;
    std::size_t file_page_bytes_;
    FileDescriptor ledger_file_;  ///< locked as long as we live; it never leaves the process, as the region's does
    Mapping ledger_mapping_;
    RegionLayout layout_;
    FileDescriptor file_;
    Mapping mapping_;
    PageLedger ledger_;
    bool reopened_ = false;
};

}  // namespace vitrine::mem
