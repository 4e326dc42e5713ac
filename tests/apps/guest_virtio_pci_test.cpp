#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/driver_ring.hpp"
#include "apps/guest/pci_transport.hpp"
#include "apps/guest/pmem_range.hpp"
#include "apps/guest/virtio_pci.hpp"
#include "tests/support/directory.hpp"
#include "virtio/features.hpp"

using namespace vitrine;
using namespace vitrine::guest;
namespace feature = virtio::feature;
namespace fs = std::filesystem;

namespace {

/// The configuration space of a modern network device, with its capabilities where QEMU puts them.
struct Config {
    std::array<std::byte, pci_config_bytes> bytes{};

    Config() {
        put<std::uint16_t>(0, 0x1af4);
        put<std::uint16_t>(2, 0x1041);
        put<std::uint16_t>(6, 1u << 4);
        put<std::uint8_t>(0x34, 0x98);
        capability(0x98, 0x84, 11, 0, 0, 0, 0);  // MSI-X, of another kind
        bytes[0x98] = std::byte{0x11};
        capability(0x84, 0x70, 5, 0, 0, 0, 0);
        capability(0x70, 0x60, 2, 4, 0x3000, 0x1000, 4);
        capability(0x60, 0x50, 4, 4, 0x2000, 0x1000, 0);
        capability(0x50, 0x40, 3, 4, 0x1000, 0x1000, 0);
        capability(0x40, 0x00, 1, 4, 0x0000, 0x1000, 0);
    }
    template <class T>
    void put(std::size_t at, T value) {
        std::memcpy(bytes.data() + at, &value, sizeof(value));
    }
    void capability(std::size_t at, std::uint8_t next, std::uint8_t kind, std::uint8_t bar, std::uint32_t offset,
                    std::uint32_t length, std::uint32_t multiplier) {
        put<std::uint8_t>(at, 0x09);
        put<std::uint8_t>(at + 1, next);
        put<std::uint8_t>(at + 2, kind == 2 || kind == 5 ? 20 : 16);
        put<std::uint8_t>(at + 3, kind);
        put<std::uint8_t>(at + 4, bar);
        put<std::uint32_t>(at + 8, offset);
        put<std::uint32_t>(at + 12, length);
        if (kind == 2) put<std::uint32_t>(at + 16, multiplier);
    }
    bool found() const { return find_virtio_registers(bytes, VirtioKind::net).has_value(); }
};

}  // namespace

TEST_CASE("VIRTIO 1.3, 4.1.4: the registers are found by their capabilities") {
    const auto layout = find_virtio_registers(Config().bytes, VirtioKind::net);
    REQUIRE(layout.has_value());
    CHECK(layout->common.bar == 4);
    CHECK(layout->common.offset == 0);
    CHECK(layout->device.offset == 0x2000);
    CHECK(layout->notify.offset == 0x3000);
    CHECK(layout->notify.bytes == 0x1000);
    CHECK(layout->notify_multiplier == 4);
}

TEST_CASE("VIRTIO 1.3, 4.1.4.1: of several capabilities of a kind the first one counts") {
    Config config;
    config.capability(0x84, 0x70, 1, 2, 0x4000, 0x1000, 0);
    CHECK(find_virtio_registers(config.bytes, VirtioKind::net)->common.bar == 2);
}

TEST_CASE("VIRTIO 1.3, 4.1.4.1: a capability with a reserved BAR is ignored") {
    Config config;
    config.put<std::uint8_t>(0x44, 6);
    CHECK(!config.found());
}

TEST_CASE("a function without what a driver needs is refused") {
    const auto refused_with = [](std::size_t place, auto value) {
        Config config;
        config.put(place, value);
        return !config.found();
    };
    CHECK(refused_with(0, std::uint16_t{0x8086}));  // another vendor
    CHECK(refused_with(2, std::uint16_t{0x1042}));  // another virtio device
    CHECK(refused_with(6, std::uint16_t{0}));       // no list of capabilities
    CHECK(refused_with(0x4c, std::uint32_t{sizeof(VirtioCommonConfig) - 1}));
    CHECK(refused_with(0x72, std::uint8_t{16}));  // a notify capability without its multiplier
    CHECK(refused_with(0x80, std::uint32_t{3}));  // an odd multiplier
}

TEST_CASE("a list of capabilities that runs in a circle comes to an end") {
    Config config;
    config.put<std::uint8_t>(0x41, 0x98);
    CHECK(config.found());
    config.put<std::uint8_t>(0x99, 0x98);
    CHECK(!config.found());
}

namespace {

/// A function in a sysfs of our own. Its registers are mere memory: what is written can be read, and nothing happens.
class PciBench {
public:
    PciBench() {
        fs::create_directories(function());
        write("config", config.bytes.data(), config.bytes.size());
        registers().queue_size = 256;
        registers().device_feature = 0xffff'ffff;
        std::memset(&bar[0x2000], 7, 6);
    }

    PciTransport transport(std::uint64_t wanted = feature::mac | feature::mrg_rxbuf) {
        write("resource4", bar.data(), bar.size());
        write("config", config.bytes.data(), config.bytes.size());
        return {{"0000:00:03.0", root_, root_}, wanted};
    }
    std::string refusal() {
        try {
            transport();
        } catch (const std::system_error& error) {
            return error.what();
        }
        return "no refusal";
    }
    VirtioCommonConfig& registers() { return *reinterpret_cast<VirtioCommonConfig*>(bar.data()); }
    VirtioCommonConfig now() const {
        VirtioCommonConfig registers{};
        std::ifstream(function() / "resource4").read(reinterpret_cast<char*>(&registers), sizeof(registers));
        return registers;
    }
    std::uint16_t command() const {
        std::uint16_t value = 0;
        std::ifstream file(function() / "config");
        file.seekg(4).read(reinterpret_cast<char*>(&value), sizeof(value));
        return value;
    }
    /// What a virtio-pmem device with these registers would be.
    PhysicalRange range() {
        config.put<std::uint16_t>(2, 0x105b);
        write("resource4", bar.data(), bar.size());
        write("config", config.bytes.data(), config.bytes.size());
        PciFunction function("0000:00:03.0", root_);
        return pmem_range(function);
    }
    fs::path function() const { return fs::path(root_) / "bus/pci/devices/0000:00:03.0"; }
    fs::path ram_file() const { return fs::path(root_) / "vitrine-guest-0000:00:03.0"; }

    Config config;
    alignas(8) std::array<std::byte, 0x4000> bar{};

private:
    void write(const char* file, const std::byte* bytes, std::size_t count) {
        std::ofstream(function() / file, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes), static_cast<std::streamsize>(count));
    }
    test::Directory directory_;
    std::string root_ = directory_.path;
};

}  // namespace

TEST_CASE("VIRTIO 1.3, 3.1.1: features are agreed before rings, and DRIVER_OK comes last") {
    PciBench bench;
    auto transport = bench.transport();
    CHECK(transport.features() == (feature::mac | feature::mrg_rxbuf | feature::version_1));
    CHECK(transport.config()->mac[5] == 7);
    constexpr auto before_rings = device_status::acknowledge | device_status::driver | device_status::features_ok;
    CHECK(bench.now().device_status == before_rings);
    CHECK(bench.now().queue_enable == 0);

    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing receive(ram, {.entries = 16});
    DriverRing transmit(ram, {.entries = 16});
    const std::array<RingEnd*, 2> rings{&receive, &transmit};
    transport.activate(ram, rings);
    const VirtioCommonConfig registers = bench.now();
    CHECK(registers.device_status == (before_rings | device_status::driver_ok));
    CHECK(registers.queue_select == 1);
    CHECK(registers.queue_size == 16);
    CHECK(registers.queue_enable == 1);
    CHECK(registers.queue_device[0] == ram.address_of(transmit.device_area()).raw);
    CHECK((bench.command() & 4) == 4);
}

TEST_CASE("a kick is a store to the device's notify register") {
    PciBench bench;
    bench.registers().queue_notify_offset = 3;
    auto transport = bench.transport();
    GuestRam ram(1 << 16, mem::Backing::small_only);
    DriverRing receive(ram, {.entries = 8, .event_index = false});
    DriverRing transmit(ram, {.entries = 8, .event_index = false});
    const std::array<RingEnd*, 2> rings{&receive, &transmit};
    transport.activate(ram, rings);
    const std::array one{Segment{{0}, 64, false}};
    REQUIRE(transmit.add(one, 0));
    transmit.publish();
    CHECK(transmit.kicks() == 1);
    CHECK(!mem::drain_event(transmit.kick_descriptor()));
    std::ifstream file(bench.function() / "resource4");
    std::uint16_t seen = 0;
    file.seekg(0x3000 + 3 * 4).read(reinterpret_cast<char*>(&seen), sizeof(seen));
    CHECK(seen == 1);
}

TEST_CASE("a device that we leave is reset and may not touch memory, and its RAM's file is gone") {
    PciBench bench;
    {
        auto transport = bench.transport();
        CHECK(fs::exists(bench.ram_file()));
        GuestRam ram(1 << 16, mem::Backing::small_only);
        DriverRing ring(ram, {.entries = 8});
        const std::array<RingEnd*, 1> rings{&ring};
        transport.activate(ram, rings);
    }
    CHECK(bench.now().device_status == 0);
    CHECK((bench.command() & 4) == 0);
    CHECK(!fs::exists(bench.ram_file()));
}

TEST_CASE("what stands in the way of a device inside the VM is named with what helps") {
    PciBench bench;
    const auto says = [&](const char* words) {
        const std::string refusal = bench.refusal();
        INFO(refusal);
        CHECK(refusal.find(words) != std::string::npos);
    };
    SUBCASE("a driver of the kernel has it") {
        fs::create_directory_symlink("../virtio-pci", bench.function() / "driver");
        says("the kernel's driver virtio-pci has it (echo 0000:00:03.0 >");
    }
    SUBCASE("another process has it") {
        const auto first = bench.transport();
        says("another process drives the device");
    }
    SUBCASE("no VERSION_1") {
        bench.registers().device_feature = 0;
        says("VERSION_1");
    }
    SUBCASE("no virtio device") {
        bench.config.put<std::uint16_t>(0, 0x8086);
        says("is no virtio network device");
    }
    SUBCASE("registers beyond the BAR") {
        bench.config.put<std::uint32_t>(0x78, 0x4000);
        says("beyond its BAR");
    }
    SUBCASE("a short ring") {
        bench.registers().queue_size = 4;
        auto transport = bench.transport();
        GuestRam ram(1 << 16, mem::Backing::small_only);
        DriverRing ring(ram, {.entries = 8});
        const std::array<RingEnd*, 1> rings{&ring};
        CHECK_THROWS_AS(transport.activate(ram, rings), std::system_error);
    }
}

TEST_CASE("VIRTIO 1.3, 5.19.4: a virtio-pmem device says where its memory begins and how much there is") {
    PciBench bench;
    const std::array<std::uint64_t, 2> start_and_bytes{0x1'4000'0000, 0x40'0000};
    std::memcpy(&bench.bar[0x2000], start_and_bytes.data(), sizeof(start_and_bytes));
    SUBCASE("as its registers say") {
        const PhysicalRange range = bench.range();
        CHECK(range.start == 0x1'4000'0000);
        CHECK(range.bytes == 0x40'0000);
        CHECK((bench.command() & 6) == 2);
    }
    SUBCASE("no registers of its kind") {
        bench.config.put<std::uint8_t>(0x63, 3);
        CHECK_THROWS_AS(bench.range(), std::system_error);
    }
    SUBCASE("registers that are too short for it") {
        bench.config.put<std::uint32_t>(0x6c, 15);
        CHECK_THROWS_AS(bench.range(), std::system_error);
    }
    SUBCASE("registers at the end of the BAR") {
        bench.config.put<std::uint32_t>(0x68, 0x3ff4);
        CHECK_THROWS_AS(bench.range(), std::system_error);
    }
}

TEST_CASE("memory that a device may still write to stays when its driver was killed") {
    PciBench bench;
    std::ofstream(bench.ram_file()) << "rings";
    bench.config.put<std::uint16_t>(0, 0x8086);  // not even recognised, so it cannot be reset
    CHECK(bench.refusal() != "no refusal");
    CHECK(fs::exists(bench.ram_file()));
}

TEST_CASE("guest RAM on huge pages hands out no piece that crosses a border, and knows where each page lies") {
    mem::SharedMemory memory = mem::make_shared_memory("test", 3 * 4096, mem::Backing::small_only);
    REQUIRE(memory.page_bytes == 4096);
    GuestRam ram(std::move(memory), {{0x10'0000}, {0x70'0000}, {0x30'0000}});
    CHECK(ram.address_of(ram.allocate(3000, 64).data()).raw == 0x10'0000);
    CHECK(ram.address_of(ram.allocate(3000, 64).data()).raw == 0x70'0000);
    CHECK(ram.address_of(ram.allocate(1000, 64).data()).raw == 0x70'0000 + 3008);
    CHECK(ram.address_of(ram.allocate(4096, 64).data()).raw == 0x30'0000);
    CHECK_THROWS_AS(ram.allocate(1, 1), std::bad_alloc);
}
