// Plays a hostile vfio-user client: messages with descriptors, registers, stores to the shared doorbell pages, writes
// to memory that was mapped for DMA, and frames from the wire in between. Nothing may crash, hang, or be written
// outside of the mapped memory.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "mem/mapping.hpp"
#include "tests/fuzz/input.hpp"
#include "tools/vf_sim/vfio_user_session.hpp"

namespace {

using namespace vitrine;
namespace wire = mem::vfio_user;

constexpr std::size_t memory_bytes = 64 * 1024;
constexpr std::uint64_t memory_at = 0x10000;
constexpr int most_steps = 200;

using fuzz::check;
using fuzz::Input;

/// The client's memory: a file that may be mapped for DMA, and our own view of it.
struct ClientMemory {
    mem::FileDescriptor file{::memfd_create("fuzz-client", MFD_CLOEXEC)};
    mem::Mapping mapping;
    ClientMemory() {
        if (::ftruncate(file.get(), memory_bytes) != 0) mem::throw_errno("ftruncate");
        mapping = mem::Mapping(file.get(), memory_bytes, 0, mem::Access::read_write);
    }
};

enum class Step : std::uint8_t { message, typed_message, store, tail, memory, transmit, receive, time, pf, count };

class Fuzzer {
public:
    explicit Fuzzer(Input input) : input_(input), vf_(policy(input_.take<std::uint8_t>())), session_(vf_, true) {
        const wire::Version version{0, 0};
        send(wire::Command::version, mem_bytes(version), 0);
        std::vector<mem::FileDescriptor> file;
        file.push_back(mem::duplicate(memory().file.get()));
        const wire::DmaMap map{sizeof(map), wire::dma_readable | wire::dma_writable, 0, memory_at, memory_bytes};
        send_with(wire::Command::dma_map, mem_bytes(map), std::move(file), 0);
        const std::array bus_master{std::byte{4}};
        vf_.write_config(4, bus_master);
        ask(driver::MessageType::reset);
    }

    void run() {
        for (int steps = 0; steps < most_steps && !input_.empty(); ++steps) {
            switch (static_cast<Step>(input_.take<std::uint8_t>() % static_cast<unsigned>(Step::count))) {
                case Step::message:
                    message(static_cast<wire::Command>(input_.take<std::uint16_t>()));
                    break;
                case Step::typed_message:
                    message(static_cast<wire::Command>(input_.take<std::uint8_t>() % 16));
                    break;
                case Step::store:
                    vf_.store(input_.take<std::uint16_t>() % driver::bar0_bytes & ~3u, input_.take<std::uint32_t>());
                    break;
                case Step::tail:
                    tail();
                    break;
                case Step::memory:
                    write_memory();
                    break;
                case Step::transmit:
                    vf_.transmit(32, [](std::span<const std::byte> frame) { check(frame.size() >= 60); });
                    break;
                case Step::receive:
                    receive();
                    break;
                case Step::time:
                    now_ += std::chrono::microseconds(input_.take<std::uint16_t>());
                    vf_.advance(now_);
                    break;
                case Step::pf:
                    if (const auto what = input_.take<std::uint8_t>(); what % 8 == 0)
                        vf_.reset_pf(std::chrono::milliseconds(what));
                    else
                        vf_.set_link(what % 2 == 0);
                    break;
                case Step::count:
                    break;
            }
        }
    }

private:
    static vf_sim::Policy policy(std::uint8_t choice) {
        vf_sim::Policy policy;
        policy.part = static_cast<vf_sim::Part>(choice % 3);
        policy.trusted = policy.promiscuous = (choice & 4) != 0;
        policy.queues = 1u << (choice >> 3 & 3);
        policy.mtu_bytes = (choice & 32) != 0 ? 9000 : 1500;
        policy.spoof_check = (choice & 64) != 0;
        policy.strict = policy.mdd = (choice & 128) != 0;
        policy.mac = mem::EthernetAddress{2, 0, 0, 0, 0, 1};
        return policy;
    }
    static ClientMemory& memory() {
        static ClientMemory memory;
        return memory;
    }
    template <class T>
    static std::span<const std::byte> mem_bytes(const T& value) {
        return std::as_bytes(std::span(&value, 1));
    }

    void ask(driver::MessageType type) {
        vf_.store(driver::VFMBMEM::at(0), driver::head_of(type).raw);
        vf_.store(driver::VFMAILBOX::at(), driver::VFMAILBOX::request.mask);
    }
    void send(wire::Command command, std::span<const std::byte> payload, std::uint32_t flags) {
        send_with(command, payload, {}, flags);
    }
    void send_with(wire::Command command, std::span<const std::byte> payload, std::vector<mem::FileDescriptor> files,
                   std::uint32_t flags) {
        const wire::Header header{1, command, static_cast<std::uint32_t>(sizeof(wire::Header) + payload.size()), flags,
                                  0};
        if (vf_sim::VfioUserSession::payload_bytes(header).value_or(~0u) != payload.size()) return;
        const auto reply = session_.handle(header, payload, std::move(files));
        if (reply && (flags & wire::flag_no_reply) != 0) check(reply->bytes.empty());
        if (reply && (flags & wire::flag_no_reply) == 0) check(reply->bytes.size() >= sizeof(wire::Header));
    }
    void message(wire::Command command) {
        const auto flags = input_.take<std::uint8_t>();
        std::vector<mem::FileDescriptor> files;
        for (unsigned count = input_.take<std::uint8_t>() % 10; count > 0; --count)
            files.push_back(mem::duplicate(count % 2 == 0 ? event_.get() : memory().file.get()));
        send_with(command, input_.take_bytes(input_.take<std::uint8_t>()), std::move(files), flags);
    }
    void tail() {
        const unsigned queue = input_.take<std::uint8_t>() % driver::queue_slots;
        const std::uint32_t at =
            (input_.take<std::uint8_t>() & 1) != 0 ? driver::VFRDT::at(queue) : driver::VFTDT::at(queue);
        auto* word = reinterpret_cast<std::uint32_t*>(vf_.doorbells().mapping.data() + at);
        std::atomic_ref(*word).store(input_.take<std::uint32_t>(), std::memory_order_release);
    }
    void write_memory() {
        const std::size_t at = input_.take<std::uint16_t>() % memory_bytes;
        const auto bytes = input_.take_bytes(std::min<std::size_t>(input_.take<std::uint8_t>(), memory_bytes - at));
        std::memcpy(memory().mapping.data() + at, bytes.data(), bytes.size());
    }
    void receive() {
        std::vector<std::byte> frame(14 + input_.take<std::uint16_t>() % 10000);
        const auto bytes = input_.take_bytes(std::min<std::size_t>(input_.take<std::uint8_t>(), frame.size()));
        std::memcpy(frame.data(), bytes.data(), bytes.size());
        vf_.receive(frame);
    }

    Input input_;
    vf_sim::Vf vf_;
    vf_sim::VfioUserSession session_;
    mem::EventFd event_;
    vf_sim::Time now_{std::chrono::seconds(1)};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Fuzzer(Input(data, size)).run();
    return 0;
}
