#include "apps/guest/device_ram.hpp"

#include <bit>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace vitrine::guest {
namespace {

/// Where memory of ours that is there lies (Documentation/admin-guide/mm/pagemap.rst of Linux).
mem::GuestPhys place_of(const mem::FileDescriptor& pagemap, const std::byte* memory) {
    constexpr std::uint64_t frame_mask = (std::uint64_t{1} << 55) - 1;
    const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    std::uint64_t entry = 0;
    const auto index = std::bit_cast<std::uint64_t>(memory) / page_bytes;
    if (::pread(pagemap.get(), &entry, sizeof(entry), static_cast<off_t>(index * sizeof(entry))) != sizeof(entry))
        mem::throw_errno("/proc/self/pagemap");
    if ((entry & frame_mask) == 0)
        throw std::system_error(EPERM, std::generic_category(),
                                "/proc/self/pagemap: only root is told where memory lies (CAP_SYS_ADMIN)");
    return {(entry & frame_mask) * page_bytes};
}

}  // namespace

DeviceRam::DeviceRam(const std::string& directory, const std::string& device)
    : path_(directory + "/vitrine-guest-" + device), device_knows_it_(true) {
    for (struct stat status{}; status.st_nlink == 0;) {  // 0: removed by its owner before we had the lock
        file_ = mem::open(path_, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0)
            throw std::system_error(EBUSY, std::generic_category(), path_ + ": another process drives the device");
        if (::fstat(file_.get(), &status) != 0) mem::throw_errno("fstat " + path_);
        device_knows_it_ = status.st_size != 0;
    }
}

DeviceRam::~DeviceRam() {
    if (!device_knows_it_) ::unlink(path_.c_str());
}

GuestRam DeviceRam::make(std::size_t bytes) {
    if (::ftruncate(file_.get(), 0) != 0) mem::throw_errno("ftruncate " + path_);
    // At the end of each page something may not fit any more: the largest ring takes a quarter of one.
    device_knows_it_ = true;
    const std::size_t page_bytes = mem::huge_page_bytes();
    auto memory = mem::fill_with_huge_pages(mem::duplicate(file_.get()), path_, bytes + bytes / 2 + page_bytes);
    const mem::FileDescriptor pagemap = mem::open("/proc/self/pagemap", O_RDONLY);
    std::vector<mem::GuestPhys> places;
    for (std::size_t offset = 0; offset < memory.mapping.size(); offset += page_bytes)
        places.push_back(place_of(pagemap, memory.mapping.data() + offset));
    return {std::move(memory), std::move(places)};
}

}  // namespace vitrine::guest
