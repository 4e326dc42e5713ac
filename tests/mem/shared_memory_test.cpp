#include "mem/shared_memory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

/// What a peer of another user manages to do with the descriptor it is given: one bit per success. In a child, so that
/// the change of user ends with it.
int peer_successes(int descriptor, std::size_t page_bytes) {
    const pid_t child = ::fork();
    if (child == 0) {
        int won = 0;
        if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(0x80);
        void* writable = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (writable != MAP_FAILED) won |= 1;
        void* readable = ::mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
        if (readable == MAP_FAILED) won |= 0x40;
        if (readable != MAP_FAILED && ::mprotect(readable, page_bytes, PROT_READ | PROT_WRITE) == 0) won |= 2;
        if (::ftruncate(descriptor, 0) == 0) won |= 4;
        if (::fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(page_bytes)) == 0)
            won |= 8;
        const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
        if (::open(path.c_str(), O_RDWR | O_CLOEXEC) >= 0) won |= 16;
        ::_exit(won);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void check_memory(Backing backing) {
    const SharedMemory memory = make_shared_memory("test", 3 << 20, backing);
    CHECK(memory.mapping.size() >= 3 << 20);
    CHECK(memory.mapping.size() % memory.page_bytes == 0);
    CHECK((::fcntl(memory.file.get(), F_GETFD) & FD_CLOEXEC) != 0);

    memory.mapping.data()[12345] = std::byte{0x42};
    const FileDescriptor view = read_only_view(memory);
    const Mapping seen(view.get(), memory.mapping.size(), 0, Access::read_only);
    CHECK(seen.data()[12345] == std::byte{0x42});
    CHECK_THROWS(Mapping(view.get(), memory.mapping.size(), 0, Access::read_write));
    CHECK(peer_successes(view.get(), memory.page_bytes) == 0);
}

}  // namespace

TEST_CASE("a memfd's read-only view cannot be mapped, made or re-opened writable, resized or punched by another user") {
    check_memory(Backing::small_only);
}

TEST_CASE("the same holds on huge pages, or the fall-back says why there are none") {
    const SharedMemory memory = make_shared_memory("test", 1, Backing::huge_or_small);
    if (!memory.why_not_huge.empty()) {
        MESSAGE("no huge pages here: " << memory.why_not_huge);
        CHECK(memory.page_bytes == static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
        return;
    }
    CHECK(memory.page_bytes >= 2 << 20);
    check_memory(Backing::huge_only);
}

TEST_CASE("a shortage of huge pages is an error that names both numbers, not a SIGBUS") {
    try {
        (void)make_shared_memory("packets", std::size_t{1} << 50, Backing::huge_only);
        FAIL("a pebibyte of huge pages was had");
    } catch (const std::exception& error) {
        const std::string text = error.what();
        CHECK(text.find("packets") != std::string::npos);
    }
}
