// write_pages FILE: runs in the guest of vm/test_pages.sh as root, against what it should not do: maps the BAR behind
// FILE (resource2 of an ivshmem device) writable, and writes to its first word of each 2 KiB, packet pages and all
// else. Prints how many of the words were different afterwards; a signal or a refused mapping is an answer as well.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fcntl.h>

#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    try {
        namespace mem = vitrine::mem;
        constexpr std::size_t step_bytes = 2048;
        const mem::FileDescriptor file = mem::open(argv[1], O_RDWR);
        const mem::Mapping mapping(file.get(), mem::file_bytes(file.get()), 0, mem::Access::read_write);
        std::size_t written = 0, changed = 0;
        for (std::size_t offset = 0; offset < mapping.size(); offset += step_bytes, ++written) {
            const std::atomic_ref word(*reinterpret_cast<std::uint32_t*>(mapping.data() + offset));
            const std::uint32_t mine = 0xdead0000 + static_cast<std::uint32_t>(offset / step_bytes % 0x10000);
            word.store(mine);
            changed += word.load() == mine;
        }
        std::printf("%zu words written, %zu changed\n", written, changed);
        return changed == 0 ? 0 : 1;
    } catch (const std::exception& error) {
        std::printf("refused: %s\n", error.what());
        return 0;
    }
}
