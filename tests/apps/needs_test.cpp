#include "apps/vitrine/needs.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "apps/vitrine/nic.hpp"

using namespace vitrine;
using vitrine::apps::Needs;
using vitrine::apps::needs_of;
using vitrine::apps::Options;

namespace {

constexpr std::size_t huge = std::size_t{2} << 20;

Options with_vf(const std::string& vf) {
    Options options;
    options.vf = vf;
    return options;
}

}  // namespace

TEST_CASE("with huge pages, the kernel's VFIO counts each of them as locked, and so does vitrine needs") {
    const Options options = with_vf("0000:03:10.1");
    const Needs needs = needs_of(options, huge, 0);
    CHECK(needs.huge_pages == 4);  // packets 2, bounce pages 1, descriptors 1
    CHECK(needs.locked_bytes == 4 * huge);
}

TEST_CASE("what is needed is what is allocated") {
    for (const std::uint16_t mtu : {std::uint16_t{1500}, std::uint16_t{9000}}) {
        Options options = with_vf("0000:03:10.1");
        options.mtu = mtu;
        options.pairs = 2;
        options.backing = mem::Backing::small_only;
        const apps::NicMemoryBytes bytes = apps::nic_memory_bytes(options);
        const Needs needs = needs_of(options, huge, 0);
        CHECK(needs.huge_pages == 0);
        CHECK(needs.locked_bytes == bytes.packets + bytes.bounce + bytes.rings);

        options.vf = "vfio-user:/x";  // it locks what a VF of the kernel's would have pinned
        CHECK(needs_of(options, huge, 0).locked_bytes == needs.locked_bytes);
        const apps::NicMemory memory(options, {{0, (std::uint64_t{1} << 39) - 1}});
        CHECK(memory.packets.mapping.size() + memory.bounce.mapping.size() + memory.rings.mapping.size() ==
              needs.locked_bytes);
    }
}

TEST_CASE("behind a vfio-user socket huge pages are not locked, but small ones may have to do") {
    Options options = with_vf("vfio-user:/x");
    options.backing = mem::Backing::huge_only;
    CHECK(needs_of(options, huge, 0).locked_bytes == 0);
    options.backing = mem::Backing::huge_or_small;
    CHECK(needs_of(options, huge, 0).locked_bytes > 0);
    CHECK(needs_of(options, 0, 0).huge_pages == 0);  // a machine without any
}

TEST_CASE("the VM's memory counts when the NIC may read it") {
    constexpr std::uint64_t guest = std::uint64_t{1} << 30;
    Options options = with_vf("enp3s0f0/1");
    const std::uint64_t without = needs_of(options, huge, guest).locked_bytes;
    options.guest_dma = true;
    CHECK(needs_of(options, huge, guest).locked_bytes == without + guest);
}

TEST_CASE("the needs as JSON have huge pages by their size in KiB") {
    const auto json = nlohmann::json::parse(json_of(needs_of(with_vf("0000:03:10.1"), huge, 0)));
    CHECK(json["huge_pages"]["2048"] == 4);
    CHECK(json["locked_bytes"] == 4 * huge);
}
