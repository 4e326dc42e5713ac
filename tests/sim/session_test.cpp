// vfio-user messages into a session, without a socket.
#include <cerrno>
#include <cstring>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/socket.hpp"
#include "tests/sim/simulator_thread.hpp"
#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/vfio_user_session.hpp"

namespace vitrine::sim_test {
namespace {

using namespace mem::vfio_user;
using vf_sim::Malformed;
using vf_sim::VfioUserSession;

struct SessionBench {
    vf_sim::Vf vf{vf_sim::Policy{}};
    VfioUserSession session;

    explicit SessionBench(bool offer_doorbells = true, bool greet = true) : session(vf, offer_doorbells) {
        if (greet) REQUIRE(call(Command::version, Version{0, 1}));
    }
    struct Answer {
        Header header;
        std::vector<std::byte> payload;
        std::vector<int> descriptors;
        int error() const { return (header.flags & flag_error) != 0 ? static_cast<int>(header.error) : 0; }
        template <class T>
        T as(std::size_t offset = 0) const {
            T value;
            REQUIRE(payload.size() >= offset + sizeof(T));
            std::memcpy(&value, payload.data() + offset, sizeof(T));
            return value;
        }
    };
    std::expected<Answer, Malformed> call_bytes(Command command, std::span<const std::byte> payload,
                                                std::vector<mem::FileDescriptor> descriptors = {},
                                                std::uint32_t flags = 0) {
        const Header header{77, command, static_cast<std::uint32_t>(sizeof(Header) + payload.size()), flags, 0};
        const auto reply = session.handle(header, payload, std::move(descriptors));
        if (!reply) return std::unexpected(reply.error());
        Answer answer{};
        if (reply->bytes.empty()) return answer;
        REQUIRE(reply->bytes.size() >= sizeof(Header));
        std::memcpy(&answer.header, reply->bytes.data(), sizeof(Header));
        CHECK(answer.header.message_id == 77);
        CHECK(answer.header.command == command);
        CHECK(answer.header.size == reply->bytes.size());
        CHECK((answer.header.flags & flag_type_mask) == flag_reply);
        answer.payload.assign(reply->bytes.begin() + sizeof(Header), reply->bytes.end());
        answer.descriptors = reply->descriptors;
        return answer;
    }
    template <class T>
    std::expected<Answer, Malformed> call(Command command, const T& message,
                                          std::vector<mem::FileDescriptor> descriptors = {}) {
        return call_bytes(command, mem::bytes_of(message), std::move(descriptors));
    }
    int set_irqs(std::uint32_t flags, std::uint32_t start, std::uint32_t count,
                 std::vector<mem::FileDescriptor> eventfds = {}, std::vector<std::byte> booleans = {}) {
        const IrqSet set{20, flags, msix_irq, start, count};
        std::vector<std::byte> payload(mem::bytes_of(set).begin(), mem::bytes_of(set).end());
        payload.insert(payload.end(), booleans.begin(), booleans.end());
        const auto answer = call_bytes(Command::device_set_irqs, payload, std::move(eventfds));
        REQUIRE(answer);
        return answer->error();
    }
};

std::vector<mem::FileDescriptor> eventfds(std::span<const mem::EventFd> events) {
    std::vector<mem::FileDescriptor> copies;
    for (const mem::EventFd& event : events) copies.push_back(mem::duplicate(event.get()));
    return copies;
}

}  // namespace

TEST_CASE("VERSION comes first, must be ours, and is answered with capabilities that end in NUL") {
    SessionBench bench(true, false);
    CHECK(bench.call(Command::device_get_info, DeviceInfo{}).error() == Malformed::no_version);
    CHECK(bench.call(Command::version, Version{1, 0}).error() == Malformed::unsupported_version);
    const auto answer = bench.call(Command::version, Version{0, 3});
    REQUIRE(answer);
    CHECK(answer->as<Version>().major == 0);
    CHECK(answer->as<Version>().minor == 0);
    CHECK(answer->payload.back() == std::byte{0});
    const std::string text(reinterpret_cast<const char*>(answer->payload.data()) + sizeof(Version));
    CHECK(nlohmann::json::parse(text)["capabilities"]["pgsizes"] == 4096);
}

TEST_CASE("headers that are no commands, or too large, end the connection") {
    CHECK(VfioUserSession::payload_bytes({0, Command::version, 20, 0, 0}) == 4);
    CHECK(VfioUserSession::payload_bytes({0, Command::version, 16, flag_no_reply, 0}) == 0);
    CHECK_FALSE(VfioUserSession::payload_bytes({0, Command::version, 15, 0, 0}));
    CHECK_FALSE(VfioUserSession::payload_bytes({0, Command::version, 0xffff'ffff, 0, 0}));
    CHECK_FALSE(VfioUserSession::payload_bytes({0, Command::version, 20, flag_reply, 0}));
}

TEST_CASE("the device is a PCI function with nine regions and five interrupt types, of which MSI-X has three vectors") {
    SessionBench bench;
    const auto info = bench.call(Command::device_get_info, DeviceInfo{})->as<DeviceInfo>();
    CHECK(info.flags == (device_resettable | device_is_pci));
    CHECK(info.regions == 9);
    CHECK(info.irqs == 5);
    for (std::uint32_t index = 0; index < 5; ++index) {
        const auto irq = bench.call(Command::device_get_irq_info, IrqInfo{16, 0, index, 0})->as<IrqInfo>();
        CHECK(irq.count == (index == msix_irq ? 3 : 0));
    }
    CHECK(bench.call(Command::device_get_irq_info, IrqInfo{16, 0, 5, 0})->error() == EINVAL);
    CHECK(bench.call(Command::device_get_region_info, RegionInfo{32, 0, 9, 0, 0, 0})->error() == EINVAL);
}

TEST_CASE("mapped doorbells: the first answer says how much there is, the full one brings the file and the area") {
    for (const bool offered : {true, false}) {
        SessionBench bench(offered);
        const auto brief = bench.call(Command::device_get_region_info, RegionInfo{32, 0, bar0_region, 0, 0, 0});
        CHECK(brief->as<RegionInfo>().argsz == (offered ? 64 : 32));
        CHECK(brief->as<RegionInfo>().size == 0x4000);
        CHECK(brief->descriptors.empty());
        const auto full = bench.call(Command::device_get_region_info, RegionInfo{64, 0, bar0_region, 0, 0, 0});
        const auto info = full->as<RegionInfo>();
        CHECK((info.flags & region_mappable) == (offered ? region_mappable : 0));
        CHECK(full->descriptors.size() == offered);
        if (!offered) continue;
        const auto area = full->as<SparseArea>(info.cap_offset + sizeof(SparseMmapCap));
        CHECK(area.offset == 0x1000);
        CHECK(area.size == 0x2000);
    }
}

TEST_CASE("BAR0 takes accesses of four and eight bytes; configuration space any; nothing reaches outside") {
    SessionBench bench;
    const auto read = [&](std::uint32_t region, std::uint64_t offset, std::uint32_t count) {
        return bench.call(Command::region_read, RegionAccess{offset, region, count});
    };
    CHECK(read(bar0_region, driver::VFLINKS::at(), 4)->as<std::uint32_t>(16) == 0xf000'0080);
    CHECK(read(bar0_region, 0x10, 8)->payload.size() == 24);
    for (const std::uint32_t count : {1u, 2u, 3u, 12u, 0u}) CHECK(read(bar0_region, 0, count)->error() == EINVAL);
    CHECK(read(bar0_region, 2, 4)->error() == EINVAL);
    CHECK(read(bar0_region, 0x4000, 4)->error() == EINVAL);
    CHECK(read(bar0_region, ~std::uint64_t{3}, 4)->error() == EINVAL);
    CHECK(read(config_region, 0, 4)->as<std::uint32_t>(16) == 0x10ed'8086);
    CHECK(read(config_region, 0x0f00, 0x101)->error() == EINVAL);
    CHECK(read(1, 0, 4)->error() == EINVAL);
    CHECK(read(100, 0, 4)->error() == EINVAL);
    CHECK(read(bar3_region, 0, 48)->as<std::uint32_t>(16 + 12) == 1);  // vectors are masked at first

    std::vector<std::byte> write(sizeof(RegionAccess) + 4);
    const RegionAccess access{driver::VTEIAM::at(), bar0_region, 4};
    std::memcpy(write.data(), &access, sizeof(access));
    write[sizeof(access)] = std::byte{5};
    CHECK(bench.call_bytes(Command::region_write, write)->payload.size() == sizeof(RegionAccess));
    CHECK(bench.vf.load(driver::VTEIAM::at()) == 5);
    write[sizeof(access)] = std::byte{2};
    CHECK(bench.call_bytes(Command::region_write, write, {}, flag_no_reply)->payload.empty());
    CHECK(bench.vf.load(driver::VTEIAM::at()) == 2);
    write.push_back(std::byte{0});
    CHECK(bench.call_bytes(Command::region_write, write).error() == Malformed::wrong_size);
}

TEST_CASE("SET_IRQS as QEMU and drivers send it: without descriptors, growing, replaced, disabled, triggered, masked") {
    constexpr std::uint32_t assign = irq_data_eventfd | irq_action_trigger;
    SessionBench bench;
    const std::array<mem::EventFd, 3> events;
    CHECK(bench.set_irqs(assign, 0, 1) == 0);
    CHECK(bench.set_irqs(assign, 0, 2, eventfds(std::span(events).first(2))) == 0);
    CHECK(bench.set_irqs(irq_data_none | irq_action_trigger, 1, 1) == 0);
    CHECK(events[1].drain());
    CHECK(bench.set_irqs(irq_data_none | irq_action_trigger, 0, 0) == 0);
    CHECK(bench.set_irqs(irq_data_none | irq_action_trigger, 0, 3) == 0);
    CHECK_FALSE(events[0].drain());
    CHECK(bench.set_irqs(assign, 0, 3, eventfds(events)) == 0);
    CHECK(bench.set_irqs(irq_data_bool | irq_action_trigger, 0, 3, {}, {std::byte{1}, std::byte{0}, std::byte{1}}) ==
          0);
    CHECK(events[0].drain());
    CHECK_FALSE(events[1].drain());
    CHECK(events[2].drain());
    CHECK(bench.set_irqs(irq_data_none | irq_action_mask, 0, 3) == 0);
    CHECK(bench.set_irqs(irq_data_none | irq_action_unmask, 0, 3) == 0);

    CHECK(bench.set_irqs(assign, 0, 4) == EINVAL);
    CHECK(bench.set_irqs(assign, 2, 2) == EINVAL);
    CHECK(bench.set_irqs(assign, 0xffff'ffff, 2) == EINVAL);
    CHECK(bench.set_irqs(assign, 0, 3, eventfds(std::span(events).first(2))) == EINVAL);
    CHECK(bench.set_irqs(irq_data_bool | irq_action_trigger, 0, 3, {}, {std::byte{1}}) == EINVAL);
    CHECK(bench.set_irqs(irq_data_eventfd | irq_action_mask, 0, 1, eventfds(std::span(events).first(1))) == EINVAL);
    CHECK(bench.set_irqs(irq_data_none, 0, 1) == EINVAL);
    CHECK(bench.set_irqs(0x100 | assign, 0, 1) == EINVAL);
}

TEST_CASE("DMA: maps with and without a file, range and whole unmaps, too many descriptors") {
    SessionBench bench;
    const auto file = [] {
        std::vector<mem::FileDescriptor> files;
        files.emplace_back(::memfd_create("session-test", MFD_CLOEXEC));
        REQUIRE(::ftruncate(files[0].get(), 0x4000) == 0);
        return files;
    };
    using Map = mem::vfio_user::DmaMap;
    CHECK(bench.call(Command::dma_map, Map{32, 3, 0, 0x10000, 0x4000}, file())->error() == 0);
    CHECK(bench.call(Command::dma_map, Map{32, 3, 0, 0x13000, 0x1000}, file())->error() == EEXIST);
    CHECK(bench.call(Command::dma_map, Map{32, 1, 0, 0xc0000, 0x20000})->error() == 0);
    CHECK(bench.vf.memory().size() == 1);
    CHECK(bench.call(Command::dma_unmap, DmaUnmap{24, 0, 0x8000'0000, 0x8000'0000})->error() == 0);
    CHECK(bench.call(Command::dma_unmap, DmaUnmap{24, 0, 0, 0x8000'0000})->payload.size() == sizeof(DmaUnmap));
    CHECK(bench.vf.memory().size() == 0);
    CHECK(bench.call(Command::dma_map, Map{32, 3, 0, 0x10000, 0x4000}, file())->error() == 0);
    CHECK(bench.call(Command::dma_unmap, DmaUnmap{24, unmap_all, 0, 0})->error() == 0);
    CHECK(bench.vf.memory().size() == 0);
    auto two = file();
    two.push_back(std::move(file()[0]));
    CHECK(bench.call(Command::dma_map, Map{32, 3, 0, 0x10000, 0x4000}, std::move(two)).error() ==
          Malformed::wrong_descriptors);
    CHECK(bench.call(Command::device_get_info, DeviceInfo{}, file()).error() == Malformed::wrong_descriptors);
    CHECK(bench.call(Command::dma_map, DmaUnmap{}).error() == Malformed::wrong_size);
}

TEST_CASE("commands that the server does not know are refused by name, and the session goes on") {
    SessionBench bench;
    for (const auto command : {Command::device_get_region_io_fds, Command::dma_read, Command::region_write_multi,
                               static_cast<Command>(16), static_cast<Command>(999)})
        CHECK(bench.call_bytes(command, {})->error() == EOPNOTSUPP);
    CHECK(bench.call(Command::device_get_info, DeviceInfo{}));
}

TEST_CASE("DEVICE_RESET keeps configuration space, as the kernel's reset of a VFIO device does") {
    SessionBench bench;
    const std::array bus_master{std::byte{6}, std::byte{0}};
    bench.vf.write_config(4, bus_master);
    bench.vf.store(driver::VTEIAM::at(), 7);
    CHECK(bench.call_bytes(Command::device_reset, {})->error() == 0);
    CHECK(bench.vf.load(driver::VTEIAM::at()) == 0);
    CHECK(bench.vf.config().bus_master());
}

TEST_CASE("a message that does not parse ends its connection alone: it is counted, and the next client is served") {
    SimulatorThread simulator("null");
    const Header header{1, Command::version, sizeof(Header) + 2, 0, 0};
    for (int client = 0; client < 3; ++client) {
        mem::FileDescriptor socket = mem::connect_unix(simulator.socket_path());
        mem::send_all(socket.get(), mem::bytes_of(header), {}, std::chrono::seconds(1));
        mem::send_all(socket.get(), std::array{std::byte{0}, std::byte{0}}, {}, std::chrono::seconds(1));
        CHECK(mem::wait_readable(socket.get(), std::chrono::seconds(5)));
        Header reply;
        std::vector<mem::FileDescriptor> none;
        CHECK_FALSE(mem::receive_exact(socket.get(), mem::writable_bytes_of(reply), none, std::chrono::seconds(1)));
    }
    {
        mem::FileDescriptor half = mem::connect_unix(simulator.socket_path());
        mem::send_all(half.get(), mem::bytes_of(header).first(7), {}, std::chrono::seconds(1));
    }
    CHECK(eventually([&] { return simulator.status()["sessions"]["broken"] == 1; }));
    CHECK(simulator.status()["sessions"]["malformed"]["wrong_size"] == 3);
}

}  // namespace vitrine::sim_test
