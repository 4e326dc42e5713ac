#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "apps/vitrine/options.hpp"

namespace vitrine::apps {

/// Bytes of the three pieces of memory that the NIC works in, before they are rounded up to whole pages.
struct NicMemoryBytes {
    std::size_t packets;
    std::size_t packet_pages;  ///< in them, or more
    std::size_t bounce;
    std::size_t rings;

    /// All of them, in pages of this size.
    std::size_t in_pages_of(std::size_t page_bytes) const;
};
/// Throws std::system_error (EINVAL) when --pages is too small for the rings.
NicMemoryBytes nic_memory_bytes(const Options& options);

/// Packet pages of one frame each: 2 KiB, or 16 KiB for jumbo frames.
constexpr std::size_t page_bytes_for(std::uint16_t mtu) {
    return mtu + 18u <= 2048 ? 2048 : 16384;
}

/// What a VM of these options takes from the machine. The set-up script gives it, and `vitrine run` asks for no more.
struct Needs {
    std::size_t huge_page_bytes = 0;  ///< 0: none are wanted
    std::size_t huge_pages = 0;
    std::uint64_t locked_bytes = 0;  ///< RLIMIT_MEMLOCK, whether or not the huge pages can be had
};

/// `huge_page_bytes`: the machine's huge page size. `guest_bytes`: the VM's memory, which counts with --guest-dma=on.
///
/// The kernel's VFIO pins what the NIC may reach and counts it, huge pages too. Behind a vfio-user socket nothing is
/// pinned, but small pages are locked.
Needs needs_of(const Options& options, std::size_t huge_page_bytes, std::uint64_t guest_bytes);

/// For people, or as JSON: {"huge_pages": {"2048": 4}, "locked_bytes": 8388608}, sizes in KiB.
std::string text_of(const Needs& needs);
std::string json_of(const Needs& needs);

}  // namespace vitrine::apps
