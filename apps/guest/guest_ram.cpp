#include "apps/guest/guest_ram.hpp"

#include <bit>
#include <new>
#include <utility>

namespace vitrine::guest {

GuestRam::GuestRam(std::size_t bytes, mem::Backing backing)
    : memory_(mem::make_shared_memory("guest-ram", bytes, backing)), pieces_{{0}}, piece_shift_(63) {}

GuestRam::GuestRam(mem::SharedMemory memory, std::vector<mem::GuestPhys> huge_pages)
    : memory_(std::move(memory)),
      pieces_(std::move(huge_pages)),
      piece_shift_(static_cast<unsigned>(std::countr_zero(memory_.page_bytes))) {}

std::span<std::byte> GuestRam::allocate(std::size_t bytes, std::size_t alignment) {
    std::size_t start = (taken_bytes_ + alignment - 1) / alignment * alignment;
    if (const std::size_t next = (start >> piece_shift_) + 1; bytes != 0 && (start + bytes - 1) >> piece_shift_ >= next)
        start = next << piece_shift_;
    if (bytes > std::size_t{1} << piece_shift_) throw std::bad_alloc();
    if (start > memory_.mapping.size() || bytes > memory_.mapping.size() - start) throw std::bad_alloc();
    taken_bytes_ = start + bytes;
    return memory_.mapping.bytes().subspan(start, bytes);
}

}  // namespace vitrine::guest
