#include "driver/vfio_user_device.hpp"

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>

#include <doctest/doctest.h>

#include "driver/interrupts.hpp"
#include "driver/pci.hpp"
#include "driver/registers.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/socket.hpp"
#include "tests/driver/fake_server.hpp"

using namespace vitrine;
using namespace std::chrono_literals;
using driver::VfioUserDevice;
using mem::vfio_user::Command;
using tests::FakeServer;
namespace wire = mem::vfio_user;

namespace {

struct Connected {
    FakeServer server;
    std::optional<VfioUserDevice> device;

    explicit Connected(FakeServer::Tails tails = FakeServer::Tails::none) : server(tails) {
        server.start();
        device.emplace(server.take_client(), 2s);
    }
};

/// The error that connecting to a server with this twist ends in; 0 when there is none.
int connect_error(FakeServer::Tails tails, std::function<void(const FakeServer::Message&, FakeServer::Answer&)> twist) {
    FakeServer server(tails);
    server.twist = std::move(twist);
    server.start();
    try {
        VfioUserDevice device(server.take_client(), 200ms);
    } catch (const std::system_error& error) {
        CHECK(std::string_view(error.what()).starts_with("vfio-user "));
        return error.code().value();
    }
    return 0;
}

template <class T>
T payload_of(const FakeServer::Message& message) {
    T value;
    REQUIRE(message.payload.size() >= sizeof(T));
    std::memcpy(&value, message.payload.data(), sizeof(T));
    return value;
}

template <class T>
void put(std::vector<std::byte>& payload, std::size_t offset, T value) {
    REQUIRE(payload.size() >= offset + sizeof(T));
    std::memcpy(payload.data() + offset, &value, sizeof(T));
}

constexpr std::size_t cap_at = sizeof(wire::RegionInfo);
constexpr std::size_t area_at = cap_at + sizeof(wire::SparseMmapCap);

}  // namespace

TEST_CASE("registers and configuration space are read and written by message") {
    Connected peer;
    peer.device->store(driver::VFMBMEM::at(3), 0x1234'5678);
    CHECK(peer.server.bar0(driver::VFMBMEM::at(3)) == 0x1234'5678);
    CHECK(peer.device->load(driver::VFMBMEM::at(3)) == 0x1234'5678);
    CHECK(peer.device->read_config(0) == 0x8086);
    CHECK(driver::identify(*peer.device) == driver::Part::intel_82599);
    peer.device->write_config(4, 6);
    const auto write = payload_of<wire::RegionAccess>(peer.server.messages(Command::region_write).back());
    CHECK(write.region == wire::config_region);
    CHECK(write.count == 2);
}

TEST_CASE("memory is mapped with its file and unmapped by address") {
    Connected peer;
    std::array<std::byte, 4096> memory{};
    const mem::EventFd file;  // any descriptor will do: it is passed on, not used
    peer.device->map_dma(mem::Iova{0x1'0000'0000}, {memory, file.get(), 8192}, driver::DmaAccess::device_reads);
    peer.device->map_dma(mem::Iova{0x2'0000'0000}, {memory, file.get(), 0}, driver::DmaAccess::device_reads_and_writes);
    peer.device->unmap_dma(mem::Iova{0x1'0000'0000}, 4096);
    const auto maps = peer.server.messages(Command::dma_map);
    REQUIRE(maps.size() == 2);
    CHECK(maps[0].descriptors == 1);
    CHECK(payload_of<wire::DmaMap>(maps[0]).flags == wire::dma_readable);
    CHECK(payload_of<wire::DmaMap>(maps[0]).offset == 8192);
    CHECK(payload_of<wire::DmaMap>(maps[0]).address == 0x1'0000'0000);
    CHECK(payload_of<wire::DmaMap>(maps[0]).size == 4096);
    CHECK(payload_of<wire::DmaMap>(maps[1]).flags == (wire::dma_readable | wire::dma_writable));
    CHECK(payload_of<wire::DmaUnmap>(peer.server.messages(Command::dma_unmap).at(0)).address == 0x1'0000'0000);
}

TEST_CASE("interrupts: one eventfd a vector, none turns MSI-X off, and the server's limit holds") {
    Connected peer;
    const mem::EventFd first, second;
    peer.device->set_interrupts(std::array{first.get(), second.get()});
    peer.device->set_interrupts({});
    const auto sets = peer.server.messages(Command::device_set_irqs);
    REQUIRE(sets.size() == 2);
    CHECK(sets[0].descriptors == 2);
    CHECK(payload_of<wire::IrqSet>(sets[0]).flags == 0x24);
    CHECK(payload_of<wire::IrqSet>(sets[0]).count == 2);
    CHECK(payload_of<wire::IrqSet>(sets[1]).flags == 0x21);
    CHECK(payload_of<wire::IrqSet>(sets[1]).count == 0);
    const std::array<int, 4> four{first.get(), first.get(), first.get(), first.get()};
    CHECK_THROWS_AS(peer.device->set_interrupts(four), std::system_error);
    peer.device->reset();
    CHECK(peer.server.messages(Command::device_reset).size() == 1);
}

TEST_CASE("trapped doorbells are posted writes, in order with what follows") {
    Connected peer;
    driver::Doorbell tail = peer.device->doorbell(driver::VFRDT::at(1));
    tail.ring(17);
    CHECK(tail.settled());
    CHECK(peer.device->load(driver::VFRDT::at(1)) == 17);
    const auto writes = peer.server.messages(Command::region_write);
    REQUIRE(writes.size() == 1);
    CHECK((writes[0].header.flags & wire::flag_no_reply) != 0);
    CHECK_FALSE(peer.device->has_mapped_tails());
}

TEST_CASE("mapped doorbells are stores, and only for tails") {
    Connected peer(FakeServer::Tails::sealed);
    CHECK(peer.device->has_mapped_tails());
    peer.device->doorbell(driver::VFRDT::at(0)).ring(5);
    peer.device->doorbell(driver::VFTDT::at(7)).ring(6);
    CHECK(peer.server.tail_page(driver::VFRDT::at(0)) == 5);
    CHECK(peer.server.tail_page(driver::VFTDT::at(7)) == 6);
    CHECK(peer.server.messages(Command::region_write).empty());

    peer.device->doorbell(driver::VFRXDCTL::at(0)).ring(1);
    driver::QueueInterrupt interrupt(peer.device->doorbell(driver::VTEIMS::at()));
    CHECK(interrupt.arm());
    peer.device->load(0);
    CHECK(peer.server.bar0(driver::VTEIMS::at()) == 1);
    CHECK(peer.server.messages(Command::region_write).size() == 2);
}

TEST_CASE("a file that could shrink under a store is not mapped") {
    Connected peer(FakeServer::Tails::unsealed);
    CHECK_FALSE(peer.device->has_mapped_tails());
    peer.device->doorbell(driver::VFRDT::at(0)).ring(5);
    CHECK(peer.device->load(driver::VFRDT::at(0)) == 5);
}

TEST_CASE("a refusal is the server's error, and the connection goes on") {
    FakeServer server;
    server.twist = [](const FakeServer::Message& message, FakeServer::Answer& answer) {
        if (message.header.command != Command::dma_map) return;
        answer.header.flags |= wire::flag_error;
        answer.header.error = EEXIST;
        answer.header.size = sizeof(wire::Header);
        answer.payload.clear();
    };
    server.start();
    VfioUserDevice device(server.take_client(), 2s);
    const mem::EventFd file;
    try {
        device.map_dma(mem::Iova{0x1000}, {{}, file.get(), 0}, driver::DmaAccess::device_reads);
        FAIL("no error");
    } catch (const std::system_error& error) {
        CHECK(error.code().value() == EEXIST);
    }
    CHECK(device.read_config(0) == 0x8086);
}

TEST_CASE("a nonsense answer ends the connection: what follows could be a late answer") {
    FakeServer server;
    server.twist = [](const FakeServer::Message& message, FakeServer::Answer& answer) {
        if (message.header.command == Command::device_reset) ++answer.header.message_id;
    };
    server.start();
    VfioUserDevice device(server.take_client(), 2s);
    CHECK_THROWS_AS(device.reset(), std::system_error);
    CHECK(mem::wait_readable(device.descriptor(), 0ms));
    CHECK_THROWS_AS(device.load(0), std::system_error);
    CHECK(server.messages(Command::region_read).empty());
}

TEST_CASE("a server that dies is an error for calls and nothing for doorbells") {
    Connected peer;
    driver::Doorbell tail = peer.device->doorbell(driver::VFTDT::at(0));
    peer.server.die();
    CHECK(mem::wait_readable(peer.device->descriptor(), 1000ms));
    tail.ring(1);
    tail.ring(2);
    CHECK(tail.settled());
    CHECK_THROWS_AS(peer.device->load(0), std::system_error);
    CHECK_THROWS_AS(peer.device->store(0, 0), std::system_error);
}

TEST_CASE("a doorbell never waits: a full socket keeps the last value for later") {
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    const mem::FileDescriptor client(pair[0]), server(pair[1]);
    driver::Doorbell tail(client.get(), driver::VFTDT::at(0));
    std::uint32_t value = 0;
    while (tail.settled() && value < 1'000'000) tail.ring(++value);
    REQUIRE_FALSE(tail.settled());
    tail.ring(++value);
    tail.settle();
    CHECK_FALSE(tail.settled());

    struct Posted {
        wire::Header header;
        wire::RegionAccess access;
        std::uint32_t value;
    };
    constexpr std::size_t message_bytes = 36;
    std::uint32_t last = 0, taken = 0;
    const auto take = [&] {
        std::array<std::byte, sizeof(Posted)> bytes{};
        if (::recv(server.get(), bytes.data(), message_bytes, MSG_DONTWAIT) != message_bytes) return false;
        Posted posted;
        std::memcpy(&posted, bytes.data(), sizeof(posted));
        REQUIRE(posted.header.size == message_bytes);
        last = posted.value;
        return true;
    };
    while (take()) ++taken;
    CHECK(taken == value - 2);
    tail.settle();
    CHECK(tail.settled());
    REQUIRE(take());
    CHECK(last == value);
}

TEST_CASE("a server that does not keep to the protocol ends in an error") {
    const auto on = [](Command command, auto change) {
        return [command, change](const FakeServer::Message& message, FakeServer::Answer& answer) {
            if (message.header.command == command) change(answer);
        };
    };
    const auto none = FakeServer::Tails::none;
    using Answer = FakeServer::Answer;
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { ++answer.header.message_id; })) == EPROTO);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.header.flags = 0; })) == EPROTO);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.header.size = 0; })) == EPROTO);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.header.size = ~0u; })) == EPROTO);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.header.size += 1; })) == ETIMEDOUT);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.swallow = true; })) == ETIMEDOUT);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.close = true; })) == ECONNRESET);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.header.flags |= wire::flag_error; })) ==
          EPROTO);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.payload[0] = std::byte{1}; })) ==
          EPROTONOSUPPORT);
    CHECK(connect_error(none, on(Command::version, [](Answer& answer) { answer.payload[4] = std::byte{'x'}; })) ==
          EPROTO);
    CHECK(connect_error(none, on(Command::device_get_info, [](Answer& answer) { put(answer.payload, 4, 0u); })) ==
          ENODEV);
    CHECK(connect_error(none, on(Command::device_get_region_info,
                                 [](Answer& answer) { put(answer.payload, 16, std::uint64_t{4096}); })) == ENODEV);
}

TEST_CASE("mappable areas that cannot be are errors, not mappings") {
    const auto with = [](std::size_t offset, auto value) {
        return connect_error(FakeServer::Tails::sealed,
                             [=](const FakeServer::Message& message, FakeServer::Answer& answer) {
                                 const bool full = message.header.command == Command::device_get_region_info &&
                                                   answer.payload.size() > sizeof(wire::RegionInfo);
                                 if (full) put(answer.payload, offset, value);
                             });
    };
    CHECK(with(12, std::uint32_t{0x1000}) == EPROTO);               // cap_offset outside
    CHECK(with(24, std::uint64_t{0x3000}) == EPROTO);               // behind the file
    CHECK(with(24, ~std::uint64_t{0}) == EPROTO);                   // wraps
    CHECK(with(24, std::uint64_t{8}) == EPROTO);                    // not a whole page
    CHECK(with(cap_at + 8, std::uint32_t{0xffff'ffff}) == EPROTO);  // more areas than sent
    CHECK(with(area_at, ~std::uint64_t{0}) == EPROTO);              // outside of the region
    CHECK(with(area_at + 8, ~std::uint64_t{0}) == EPROTO);          // wraps
    CHECK(with(cap_at, std::uint16_t{99}) == 0);                    // unknown: skipped
}

TEST_CASE("nobody listening is a named error") {
    try {
        VfioUserDevice device("/nonexistent/vf.sock", 100ms);
        FAIL("no error");
    } catch (const std::system_error& error) {
        CHECK(std::string_view(error.what()).find("/nonexistent/vf.sock") != std::string_view::npos);
    }
}
