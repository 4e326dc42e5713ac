#include "mem/shared_memory.hpp"

#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <fstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "mem/locked_memory.hpp"

extern "C" {  // the header has neither this nor <stddef.h>
#include <hugetlbfs.h>
}

namespace vitrine::mem {
namespace {

std::size_t small_page_bytes() {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t round_up(std::size_t bytes, std::size_t granule) {
    return (bytes + granule - 1) / granule * granule;
}

std::size_t pool_value(const std::string& name) {
    std::ifstream file("/sys/kernel/mm/hugepages/hugepages-" + std::to_string(huge_page_bytes() / 1024) + "kB/" + name);
    std::size_t count = 0;
    return file >> count ? count : 0;
}

std::size_t require_huge_page_bytes(const std::string& name) {
    const std::size_t size = huge_page_bytes();
    if (size == 0)
        throw std::system_error(ENOSYS, std::generic_category(), name + ": no huge page size (libhugetlbfs)");
    return size;
}

SharedMemory make_huge(const std::string& name, std::size_t bytes) {
    huge_page_mount(name);
    FileDescriptor file(::hugetlbfs_unlinked_fd_for_size(::gethugepagesize()));
    if (!file) throw_errno(name + ": file on hugetlbfs");
    if (::fcntl(file.get(), F_SETFD, FD_CLOEXEC) != 0) throw_errno(name + ": FD_CLOEXEC");
    if (::fchmod(file.get(), 0600) != 0) throw_errno(name + ": fchmod");
    return fill_with_huge_pages(std::move(file), name, bytes);
}

SharedMemory make_small(const std::string& name, std::size_t bytes) {
    const std::size_t page_bytes = small_page_bytes();
    const std::size_t total = round_up(bytes, page_bytes);
    FileDescriptor file(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file) throw_errno(name + ": memfd_create");
    if (::ftruncate(file.get(), static_cast<off_t>(total)) != 0) throw_errno(name + ": ftruncate");
    Mapping mapping(file.get(), total, 0, Access::read_write);
    mapping.populate();
    // FUTURE_WRITE would also stop our own simulated NIC, which maps the descriptor it is given; 0400 stops others.
    if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) throw_errno(name + ": seal");
    if (::fchmod(file.get(), 0400) != 0) throw_errno(name + ": fchmod");
    return {std::move(file), std::move(mapping), page_bytes, {}};
}

}  // namespace

std::size_t huge_page_bytes() {
    const long size = ::gethugepagesize();
    return size > 0 ? static_cast<std::size_t>(size) : 0;
}

std::size_t free_huge_pages() {
    const std::size_t free = pool_value("free_hugepages"), reserved = pool_value("resv_hugepages");
    return free > reserved ? free - reserved : 0;
}

std::string huge_page_mount(const std::string& name) {
    const auto size = static_cast<long>(require_huge_page_bytes(name));
    if (const char* const path = ::hugetlbfs_find_path_for_size(size); path != nullptr) return path;
    throw std::system_error(ENOENT, std::generic_category(),
                            name + ": no hugetlbfs mount (mount -t hugetlbfs none /dev/hugepages)");
}

SharedMemory fill_with_huge_pages(FileDescriptor file, const std::string& name, std::size_t bytes) {
    const std::size_t page_bytes = require_huge_page_bytes(name);
    const std::size_t total = round_up(bytes, page_bytes);
    if (::ftruncate(file.get(), static_cast<off_t>(total)) != 0) throw_errno(name + ": ftruncate on hugetlbfs");
    try {
        Mapping mapping(file.get(), total, 0, Access::read_write);
        mapping.populate();
        return {std::move(file), std::move(mapping), page_bytes, {}};
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), name + ": " + std::to_string(total / page_bytes) + " huge pages of " +
                                                  std::to_string(page_bytes / 1024) + " KiB needed, " +
                                                  std::to_string(free_huge_pages()) +
                                                  " free: " + huge_pages_advice(total / page_bytes));
    }
}

std::string huge_pages_advice(std::size_t needed) {
    const std::size_t free = free_huge_pages();
    return "sysctl -w vm.nr_hugepages=" +
           std::to_string(pool_value("nr_hugepages") + (needed > free ? needed - free : 0));
}

SharedMemory make_shared_memory(const std::string& name, std::size_t bytes, Backing backing) {
    if (backing == Backing::small_only) return make_small(name, bytes);
    try {
        return make_huge(name, bytes);
    } catch (const std::system_error& error) {
        if (backing == Backing::huge_only) throw;
        SharedMemory memory = make_small(name, bytes);
        memory.why_not_huge = error.what();
        return memory;
    }
}

void lock_in_memory(std::initializer_list<const SharedMemory*> memories) {
    std::size_t needed = 0;
    for (const SharedMemory* memory : memories)
        if (memory->page_bytes == small_page_bytes()) needed += memory->mapping.size();
    for (const SharedMemory* memory : memories) {
        if (memory->page_bytes != small_page_bytes()) continue;
        if (::mlock(memory->mapping.data(), memory->mapping.size()) == 0) continue;
        throw_errno(lock_limit_advice(needed));
    }
}

FileDescriptor read_only_view(const SharedMemory& memory) {
    return open("/proc/self/fd/" + std::to_string(memory.file.get()), O_RDONLY);
}

}  // namespace vitrine::mem
