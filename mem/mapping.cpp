#include "mem/mapping.hpp"

#include <cerrno>
#include <string>
#include <sys/mman.h>
#include <utility>

#include "mem/file_descriptor.hpp"

namespace vitrine::mem {

Mapping::Mapping(int descriptor, std::size_t bytes, std::uint64_t offset, Access access) : size_(bytes) {
    const int protection = access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
    void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, descriptor, static_cast<off_t>(offset));
    if (address == MAP_FAILED) throw_errno("mmap of " + std::to_string(bytes) + " bytes");
    data_ = static_cast<std::byte*>(address);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

Mapping::~Mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
}

void Mapping::populate() const {
    if (::madvise(data_, size_, MADV_POPULATE_WRITE) != 0)
        throw_errno("populate " + std::to_string(size_) + " bytes of memory");
}

}  // namespace vitrine::mem
