#include "apps/guest/guest_ram.hpp"

#include <new>

namespace vitrine::guest {

GuestRam::GuestRam(std::size_t bytes, mem::Backing backing)
    : memory_(mem::make_shared_memory("guest-ram", bytes, backing)) {}

std::span<std::byte> GuestRam::allocate(std::size_t bytes, std::size_t alignment) {
    const std::size_t start = (taken_bytes_ + alignment - 1) / alignment * alignment;
    if (start > memory_.mapping.size() || bytes > memory_.mapping.size() - start) throw std::bad_alloc();
    taken_bytes_ = start + bytes;
    return memory_.mapping.bytes().subspan(start, bytes);
}

}  // namespace vitrine::guest
