#include "virtio/guest_memory.hpp"

#include <fcntl.h>
#include <limits>
#include <unistd.h>

#include <doctest/doctest.h>

#include "mem/shared_memory.hpp"
#include "tests/support/guest_ring.hpp"

using namespace vitrine;
using virtio::GuestMemory;
using virtio::RegionFault;

namespace {

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

RegionFault refused(GuestMemory& memory, const test::GuestRam& ram, const virtio::vhost_user::MemoryRegion& region) {
    const auto added = memory.add(region, mem::duplicate(ram.file()));
    REQUIRE(!added.has_value());
    return added.error();
}

}  // namespace

TEST_CASE("a guest address becomes a pointer into the region that holds it") {
    const test::GuestRam ram(0x4000);
    GuestMemory memory;
    ram.announce_to(memory, ram.region(0x1000, 0x2000));
    *ram.at(0x1234) = std::byte{42};
    const auto range = memory.translate(mem::GuestPhys{ram.guest_base + 0x1234}, 16);
    REQUIRE(range.length_bytes == 16);
    CHECK(*range.host == std::byte{42});
    CHECK(*memory.translate(mem::FrontendVirtual{ram.user_base + 0x1234}, 1) == std::byte{42});
}

TEST_CASE("a range is cut where its region ends, and nothing is found beside it") {  // CVE-2018-1059
    const test::GuestRam ram(0x4000);
    GuestMemory memory;
    ram.announce_to(memory, ram.region(0x1000, 0x1000));
    ram.announce_to(memory, ram.region(0x2000, 0x1000, 0x1'0000));  // a gap in guest addresses
    const std::uint64_t start = ram.guest_base + 0x1000;
    const std::uint64_t end = start + 0x1000;
    CHECK(memory.translate(mem::GuestPhys{start - 1}, 2).length_bytes == 0);
    CHECK(memory.translate(mem::GuestPhys{start}, 0x1000).length_bytes == 0x1000);
    CHECK(memory.translate(mem::GuestPhys{start}, 0x1001).length_bytes == 0x1000);
    CHECK(memory.translate(mem::GuestPhys{end - 1}, 2).length_bytes == 1);
    CHECK(memory.translate(mem::GuestPhys{end}, 1).length_bytes == 0);
    CHECK(memory.translate(mem::GuestPhys{most}, 2).length_bytes == 0);
    CHECK(memory.translate(mem::GuestPhys{start}, most).length_bytes == 0x1000);
    const std::uint64_t user = ram.user_base + 0x1000;
    CHECK(memory.translate(mem::FrontendVirtual{user}, 0x1000) != nullptr);
    CHECK(memory.translate(mem::FrontendVirtual{user}, 0x1001) == nullptr);
    CHECK(memory.translate(mem::FrontendVirtual{user + 1}, most) == nullptr);
    CHECK(memory.translate(mem::FrontendVirtual{user - 1}, 1) == nullptr);
}

TEST_CASE("a region that touches another in guest or user space by one byte is refused") {
    const test::GuestRam ram(0x4000);
    GuestMemory memory;
    ram.announce_to(memory, ram.region(0x1000, 0x1000));
    auto region = ram.region(0x2000, 0x1000);
    region.guest_address -= 1;
    CHECK(refused(memory, ram, region) == RegionFault::overlap);
    region = ram.region(0x2000, 0x1000);
    region.user_address -= 1;
    CHECK(refused(memory, ram, region) == RegionFault::overlap);
    region = ram.region(0, 0x1001);
    CHECK(refused(memory, ram, region) == RegionFault::overlap);
    ram.announce_to(memory, ram.region(0x2000, 0x1000));
    ram.announce_to(memory, ram.region(0, 0x1000));
    CHECK(memory.regions().size() == 3);
}

TEST_CASE("sizes and offsets at the edge of 64 bits are refused") {  // CVE-2020-10722
    const test::GuestRam ram(0x4000);
    GuestMemory memory;
    CHECK(refused(memory, ram, ram.region(0, 0)) == RegionFault::empty);
    auto region = ram.whole();
    region.guest_address = most - 0x3fff + 1;
    CHECK(refused(memory, ram, region) == RegionFault::overflow);
    region = ram.whole();
    region.user_address = most - 0x100;
    CHECK(refused(memory, ram, region) == RegionFault::overflow);
    region = ram.whole();
    region.mmap_offset = most - 0x1000;
    CHECK(refused(memory, ram, region) == RegionFault::overflow);
    region = ram.whole();
    region.size_bytes = most;
    CHECK(refused(memory, ram, region) == RegionFault::overflow);
    region = {.guest_address = 0, .size_bytes = most, .user_address = 0, .mmap_offset = 0};
    CHECK(refused(memory, ram, region) == RegionFault::short_file);
    CHECK(memory.regions().empty());
}

TEST_CASE("a file shorter than its region is refused") {
    const test::GuestRam ram(0x4000);
    GuestMemory memory;
    CHECK(refused(memory, ram, ram.region(0x1000, 0x3001)) == RegionFault::short_file);
    ram.announce_to(memory, ram.region(0x1000, 0x3000));
}

TEST_CASE("as many regions as promised are served, and not one more") {
    constexpr std::size_t page = 4096;
    const test::GuestRam ram((GuestMemory::most_regions + 1) * page);
    GuestMemory memory;
    for (std::size_t slot = 0; slot < GuestMemory::most_regions; ++slot) {
        ram.announce_to(memory, ram.region(slot * page, page));
        *ram.at(slot * page) = static_cast<std::byte>(slot);
    }
    CHECK(refused(memory, ram, ram.region(GuestMemory::most_regions * page, page)) == RegionFault::too_many);
    for (std::size_t slot = 0; slot < GuestMemory::most_regions; ++slot)
        REQUIRE(*memory.translate(mem::GuestPhys{ram.guest_base + slot * page}, 1).host ==
                static_cast<std::byte>(slot));
}

TEST_CASE("a region that starts inside a page of its file is mapped from the page on") {
    mem::SharedMemory shared = mem::make_shared_memory("guest", 4 << 20, mem::Backing::huge_or_small);
    GuestMemory memory;
    const std::uint64_t offset = 0x1230;
    shared.mapping.data()[offset + 5] = std::byte{7};
    REQUIRE(memory
                .add({.guest_address = 0x5000, .size_bytes = 0x1000, .user_address = 0x9000, .mmap_offset = offset},
                     mem::duplicate(shared.file.get()))
                .has_value());
    CHECK(*memory.translate(mem::GuestPhys{0x5005}, 1).host == std::byte{7});
}

TEST_CASE("a region is removed only by its exact name") {
    const test::GuestRam ram(0x2000);
    GuestMemory memory;
    ram.announce_to(memory, ram.whole());
    auto other = ram.whole();
    other.size_bytes -= 1;
    CHECK(memory.find(other) == nullptr);
    other = ram.whole();
    other.guest_address += 1;
    CHECK(memory.find(other) == nullptr);
    other = ram.whole();
    other.user_address += 1;
    CHECK(memory.find(other) == nullptr);
    const auto* const region = memory.find(ram.whole());
    REQUIRE(region != nullptr);
    memory.remove(*region);
    CHECK(memory.translate(mem::GuestPhys{ram.guest_base}, 1).length_bytes == 0);
}

TEST_CASE("the NIC's address follows the guest's, and 0 stays 0") {
    const test::GuestRam ram(0x2000);
    GuestMemory memory;
    ram.announce_to(memory, ram.whole());
    CHECK(memory.translate(mem::GuestPhys{ram.guest_base + 8}, 1).iova.raw == 0);
    REQUIRE(memory.set_iova(mem::GuestPhys{ram.guest_base}, mem::Iova{0x1'0000'0000}));
    CHECK(memory.translate(mem::GuestPhys{ram.guest_base + 8}, 1).iova.raw == 0x1'0000'0008);
    CHECK(!memory.set_iova(mem::GuestPhys{ram.guest_base + 1}, mem::Iova{1}));
}

TEST_CASE("a file that its owner may shrink is noted") {
    const test::GuestRam ram(0x2000);
    GuestMemory memory;
    ram.announce_to(memory, ram.region(0, 0x1000));
    CHECK(memory.regions().back().front_end_can_shrink);
    REQUIRE(::fcntl(ram.file(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    ram.announce_to(memory, ram.region(0x1000, 0x1000));
    CHECK(!memory.regions().back().front_end_can_shrink);
}
