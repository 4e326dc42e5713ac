#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mem/address.hpp"
#include "mem/shared_memory.hpp"

namespace vitrine::guest {

/// RAM that a driver shares with its device: one file, handed out from the bottom and never taken back.
class GuestRam {
public:
    /// Of a pretended guest: guest-physical from 0 up, as in a real one. Throws std::system_error when the memory
    /// cannot be had.
    GuestRam(std::size_t bytes, mem::Backing backing);
    /// Of a real guest: huge pages, and where each of them lies.
    GuestRam(mem::SharedMemory memory, std::vector<mem::GuestPhys> huge_pages);

    /// Zeroed bytes that lie in one piece for the device, too. Throws std::bad_alloc when the RAM is used up: whoever
    /// sized it miscounted.
    std::span<std::byte> allocate(std::size_t bytes, std::size_t alignment);

    std::span<std::byte> bytes() const { return memory_.mapping.bytes(); }
    /// The device's name for something in here.
    mem::GuestPhys address_of(const std::byte* inside) const {
        const auto offset = static_cast<std::uint64_t>(inside - memory_.mapping.data());
        return pieces_[offset >> piece_shift_] + (offset & ((std::uint64_t{1} << piece_shift_) - 1));
    }
    /// What is sent to the back-end.
    int file() const { return memory_.file.get(); }
    /// Empty when on huge pages.
    const std::string& why_not_huge() const { return memory_.why_not_huge; }

private:
    mem::SharedMemory memory_;
    std::vector<mem::GuestPhys> pieces_;  ///< each 2^piece_shift_ bytes
    unsigned piece_shift_;
    std::size_t taken_bytes_ = 0;
};

}  // namespace vitrine::guest
