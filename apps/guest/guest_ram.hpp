#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "mem/address.hpp"
#include "mem/shared_memory.hpp"

namespace vitrine::guest {

/// The RAM of the pretended guest: one file, guest-physical from 0 up as in a real one, handed out from the bottom and
/// never taken back. Throws std::system_error when the memory cannot be had.
class GuestRam {
public:
    GuestRam(std::size_t bytes, mem::Backing backing);

    /// Zeroed bytes. Throws std::bad_alloc when the RAM is used up: whoever sized it miscounted.
    std::span<std::byte> allocate(std::size_t bytes, std::size_t alignment);

    std::span<std::byte> bytes() const { return memory_.mapping.bytes(); }
    /// The device's name for something in here.
    mem::GuestPhys address_of(const std::byte* inside) const {
        return {static_cast<std::uint64_t>(inside - memory_.mapping.data())};
    }
    /// What is sent to the back-end.
    int file() const { return memory_.file.get(); }
    /// Empty when on huge pages.
    const std::string& why_not_huge() const { return memory_.why_not_huge; }

private:
    mem::SharedMemory memory_;
    std::size_t taken_bytes_ = 0;
};

}  // namespace vitrine::guest
