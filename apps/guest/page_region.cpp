#include "apps/guest/page_region.hpp"

#include <cerrno>
#include <string>
#include <system_error>

namespace vitrine::guest {

PageRegion::PageRegion(const mem::FileDescriptor& file) : PageRegion(file, 0, mem::file_bytes(file.get())) {
    file_ = mem::duplicate(file.get());
}

PageRegion::PageRegion(const mem::FileDescriptor& file, std::uint64_t offset, std::size_t bytes) {
    if (bytes < mem::info_page_bytes) throw std::system_error(EPROTO, std::generic_category(), "page region: no file");
    mapping_ = mem::Mapping(file.get(), bytes, offset, mem::Access::read_only);
    // Acquire: who sees the magic sees the rest.
    auto& magic = reinterpret_cast<mem::InfoPage*>(mapping_.data())->magic;
    const std::uint32_t seen_magic = std::atomic_ref(magic).load(std::memory_order_acquire);
    std::memcpy(&info_, mapping_.data(), sizeof(info_));
    info_.magic = seen_magic;
    const auto layout = mem::check_region(info_, bytes);
    if (!layout)
        throw std::system_error(EPROTO, std::generic_category(), "page region: " + std::string(layout.error()));
    layout_ = *layout;
}

}  // namespace vitrine::guest
