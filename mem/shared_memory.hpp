#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>

#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"

namespace vitrine::mem {

enum class Backing {
    huge_or_small,  ///< huge pages, or a sealed memfd of small pages when there are none
    huge_only,      ///< huge pages, or an error that says how many are missing
    small_only,     ///< a sealed memfd
};

/// Populated memory that can be given to another process or to the NIC as a descriptor.
struct SharedMemory {
    FileDescriptor file;       ///< writable: never leaves the process, except to our own simulated NIC
    Mapping mapping;           ///< read-write, populated
    std::size_t page_bytes;    ///< of the file system behind: the granularity of mappings
    std::string why_not_huge;  ///< empty with huge pages; else one line for the operator
};

/// The machine's default huge page: 2 MiB on x86. 0: it has none.
std::size_t huge_page_bytes();
/// How many of them nobody has yet.
std::size_t free_huge_pages();
/// The command that makes `needed` of them free.
std::string huge_pages_advice(std::size_t needed);

/// Where huge pages of that size are mounted. Throws std::system_error with the command that mounts them; `name` is of
/// what needs them.
std::string huge_page_mount(const std::string& name);
/// Gives an empty file on that mount `bytes` (rounded up to whole pages) of memory. Throws std::system_error with the
/// number of huge pages needed and free.
SharedMemory fill_with_huge_pages(FileDescriptor file, const std::string& name, std::size_t bytes);

/// Makes `bytes` (rounded up to whole pages) of shared memory. Huge pages come from libhugetlbfs, unlinked, mode 0600,
/// close-on-exec. The fall-back is a memfd sealed against resizing, mode 0400. Throws std::system_error with the
/// number of huge pages needed and free when neither can be had.
SharedMemory make_shared_memory(const std::string& name, std::size_t bytes, Backing backing);

/// Keeps memory of small pages from being swapped (huge pages never are): a poll thread cannot wait for a disk.
/// Throws std::system_error that names the bytes needed and RLIMIT_MEMLOCK.
void lock_in_memory(std::initializer_list<const SharedMemory*> memories);

/// A descriptor of the same memory that cannot be mapped writable, nor re-opened writable by another user.
FileDescriptor read_only_view(const SharedMemory& memory);

}  // namespace vitrine::mem
