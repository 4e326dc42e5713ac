#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"
#include "tests/fuzz/input.hpp"
#include "virtio/guest_memory.hpp"

namespace vitrine::fuzz {

inline constexpr std::uint64_t guest_base = 0x1000;

/// Guest RAM in regions side by side, then nothing. Made once: mappings are too slow for each input.
struct Ram {
    Ram(std::size_t region_bytes, unsigned regions) {
        const mem::FileDescriptor file(::memfd_create("guest", MFD_CLOEXEC));
        const std::size_t bytes = regions * region_bytes;
        check(file && ::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0);
        mapping = mem::Mapping(file.get(), bytes, 0, mem::Access::read_write);
        for (std::uint64_t offset = 0; offset < bytes; offset += region_bytes)
            check(memory
                      .add({.guest_address = guest_base + offset,
                            .size_bytes = region_bytes,
                            .user_address = guest_base + offset,
                            .mmap_offset = offset},
                           mem::duplicate(file.get()))
                      .has_value());
    }
    mem::Mapping mapping;
    virtio::GuestMemory memory;
};

}  // namespace vitrine::fuzz
