#include "mem/guarded_mapping.hpp"

#include <cerrno>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "mem/file_descriptor.hpp"

using namespace vitrine;

namespace {

constexpr std::size_t bytes = 4 * 4096;

mem::FileDescriptor file_of(std::size_t size) {
    mem::FileDescriptor file(::memfd_create("peer", MFD_CLOEXEC));
    REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size)) == 0);
    return file;
}

void truncate(const mem::FileDescriptor& file) {
    REQUIRE(::ftruncate(file.get(), 0) == 0);
}

volatile std::byte& byte_at(const mem::GuardedMapping& mapping, std::size_t offset) {
    return *(mapping.data() + offset);
}

}  // namespace

TEST_CASE("memory that its owner takes away reads as zeros, takes writes, and is known to be lost") {
    const mem::FileDescriptor file = file_of(bytes);
    mem::GuardedMapping mapping(file.get(), bytes, 0, mem::Access::read_write);
    byte_at(mapping, 5000) = std::byte{7};
    CHECK_FALSE(mapping.lost());
    truncate(file);
    errno = 0;
    CHECK(byte_at(mapping, 5000) == std::byte{0});
    CHECK(errno == 0);
    CHECK(mapping.lost());
    byte_at(mapping, bytes - 1) = std::byte{1};
    CHECK(byte_at(mapping, bytes - 1) == std::byte{1});
}

TEST_CASE("what is lost is one mapping, not its neighbours, and a mapping that moved is the same one") {
    const mem::FileDescriptor gone = file_of(bytes), stays = file_of(bytes);
    std::vector<mem::GuardedMapping> mappings;
    for (int i = 0; i < 100; ++i)
        mappings.emplace_back((i == 50 ? gone : stays).get(), bytes, 0, mem::Access::read_only);
    truncate(gone);
    CHECK(byte_at(mappings[50], 0) == std::byte{0});
    for (int i = 0; i < 100; ++i) CHECK(mappings[static_cast<std::size_t>(i)].lost() == (i == 50));
    mappings.erase(mappings.begin() + 49);
    CHECK(mappings[49].lost());
}

TEST_CASE("places in the table are used again, and a new mapping in one is not lost") {
    const mem::FileDescriptor file = file_of(bytes);
    for (int round = 0; round < 70'000; ++round) {
        const mem::GuardedMapping mapping(file.get(), bytes, 0, mem::Access::read_only);
        REQUIRE_FALSE(mapping.lost());
    }
}

TEST_CASE("a bus error anywhere else ends the process as ever") {
    const mem::FileDescriptor file = file_of(bytes);
    const mem::GuardedMapping guarded(file.get(), bytes, 0, mem::Access::read_write);
    const mem::Mapping plain(file.get(), bytes, 0, mem::Access::read_write);
    truncate(file);
    const pid_t child = ::fork();
    if (child == 0) {
        *const_cast<volatile std::byte*>(plain.data()) = std::byte{1};
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGBUS);
}
