// The simulator's IOMMU.
#include "tools/vf_sim/dma_map.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace vitrine::sim_test {
namespace {

using vf_sim::DmaMap;
using Access = DmaMap::Access;

mem::FileDescriptor file_of(std::size_t bytes) {
    mem::FileDescriptor file(::memfd_create("dma-map-test", MFD_CLOEXEC));
    REQUIRE(::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0);
    return file;
}
int error_of(const std::expected<void, int>& result) {
    return result ? 0 : result.error();
}

}  // namespace

TEST_CASE("numbers that make no sense, short files and overlaps are refused") {
    DmaMap map;
    const auto file = file_of(0x4000);
    CHECK(error_of(map.map({0x1000}, 0, file, 0, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1000}, 0x1001, file, 0, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1010}, 0x1000, file, 0, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1000}, 0x1000, file, 0x800, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1000}, 0x5000, file, 0, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1000}, 0x1000, file, 0x4000, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x1000}, 0x1000, file, ~std::uint64_t{0xfff}, true, true)) == EINVAL);
    CHECK(error_of(map.map({~std::uint64_t{0xfff}}, 0x2000, file, 0, true, true)) == EINVAL);
    CHECK(error_of(map.map({0x2000}, 0x2000, file, 0, true, true)) == 0);
    CHECK(error_of(map.map({0x1000}, 0x2000, file, 0, true, true)) == EEXIST);
    CHECK(error_of(map.map({0x3000}, 0x1000, file, 0, true, true)) == EEXIST);
    CHECK(error_of(map.map({0x1000}, 0x1000, file, 0, true, true)) == 0);
    CHECK(error_of(map.map({0x4000}, 0x1000, file, 0, true, true)) == 0);
    CHECK(error_of(map.map({~std::uint64_t{0xfff}}, 0x1000, file, 0, true, true)) == 0);
    CHECK(map.size() == 4);
    int pipe_ends[2];
    REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
    const mem::FileDescriptor reading(pipe_ends[0]), writing(pipe_ends[1]);
    CHECK(error_of(map.map({0x8000}, 0x1000, reading, 0, true, false)) == EINVAL);
}

TEST_CASE("a range without a file is no error, and DMA to it is a fault") {
    DmaMap map;
    CHECK(map.map({0xc0000}, 0x20000, mem::FileDescriptor(), 0, true, false));
    CHECK(map.at({0xc0000}, 16, Access::read) == nullptr);
    CHECK(map.faults().unmapped == 1);
}

TEST_CASE("unmap takes every mapping inside the range, none is success, cutting one is not") {
    DmaMap map;
    const auto file = file_of(0x1000);
    for (const std::uint64_t at : {0x1000, 0x3000, 0x8000}) REQUIRE(map.map({at}, 0x1000, file, 0, true, true));
    REQUIRE(map.map({~std::uint64_t{0xfff}}, 0x1000, file, 0, true, true));
    CHECK(map.unmap({0x100'0000}, 0x100'0000));
    CHECK(map.size() == 4);
    CHECK(error_of(map.unmap({0x1000}, 0x800)) == EINVAL);
    CHECK(error_of(map.unmap({0x3800}, 0x8000)) == EINVAL);
    CHECK(map.size() == 4);
    CHECK(map.unmap({0}, 0x8000));
    CHECK(map.size() == 2);
    CHECK(error_of(map.unmap({0}, 0)) == EINVAL);
    CHECK(error_of(map.unmap({1}, ~std::uint64_t{0})) == 0);  // up to the top of the address space
    CHECK(map.size() == 0);
}

TEST_CASE("permissions are the device's, and refused accesses change nothing") {
    DmaMap map;
    const auto file = file_of(0x3000);
    REQUIRE(map.map({0x1000}, 0x1000, file, 0, true, false));
    REQUIRE(map.map({0x2000}, 0x1000, file, 0x1000, false, true));
    std::array<std::byte, 32> data{};
    CHECK(map.read({0x1fe0}, data));
    CHECK_FALSE(map.read({0x1ff0}, data));
    CHECK_FALSE(map.write({0x1ff0}, data));
    CHECK(map.write({0x2000}, data));
    CHECK(map.faults().permission == 2);
    CHECK(map.at({0x2000}, 16, Access::read) == nullptr);
    CHECK(map.at({0x2000}, 16, Access::write) != nullptr);
    CHECK_FALSE(map.read({0}, data));
    CHECK(map.faults().null_address == 1);
}

TEST_CASE("a buffer may cross from one mapping into the next, and a fault in the second leaves the first alone") {
    DmaMap map;
    const auto file = file_of(0x3000);
    REQUIRE(map.map({0x1000}, 0x1000, file, 0x2000, true, true));
    REQUIRE(map.map({0x2000}, 0x1000, file, 0x0000, true, true));
    std::array<std::byte, 0x100> data, back{};
    data.fill(std::byte{0x5a});
    CHECK(map.write({0x1f80}, data));
    CHECK(map.read({0x1f80}, back));
    CHECK(back == data);
    CHECK(*map.at({0x2070}, 16, Access::read) == std::byte{0x5a});
    data.fill(std::byte{0x77});
    CHECK_FALSE(map.write({0x2f80}, data));
    CHECK(map.read({0x2f00}, back));
    CHECK(back[0x80] == std::byte{0});
}

TEST_CASE("what is not aligned to its size has no pointer") {
    DmaMap map;
    const auto file = file_of(0x1000);
    REQUIRE(map.map({0x1000}, 0x1000, file, 0, true, true));
    CHECK(map.at({0x1008}, 16, Access::read) == nullptr);
    CHECK(map.at({0x1ff0}, 16, Access::read) != nullptr);
}

TEST_CASE("a file that we may only read is mapped for reading alone") {
    DmaMap map;
    const auto file = file_of(0x1000);
    const auto path = "/proc/self/fd/" + std::to_string(file.get());
    const mem::FileDescriptor read_only = mem::open(path, O_RDONLY);
    CHECK(error_of(map.map({0x1000}, 0x1000, read_only, 0, true, true)) == EACCES);
    CHECK(error_of(map.map({0x1000}, 0x1000, read_only, 0, true, false)) == 0);
}

}  // namespace vitrine::sim_test
