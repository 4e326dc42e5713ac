// Plays drivers on two functions of one port, mostly sane and never for long: registers, configuration, DMA mappings
// and interrupts by vfio-user messages, tails and descriptors in shared memory, frames from the wire and through the
// switch, the PF's administrator, faults on command. Nothing may crash or hang, and not a byte may change outside of
// what was mapped for DMA.
#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "driver/descriptors.hpp"
#include "mem/mapping.hpp"
#include "tests/fuzz/input.hpp"
#include "tools/vf_sim/commands.hpp"
#include "tools/vf_sim/switch.hpp"
#include "tools/vf_sim/vfio_user_session.hpp"

namespace {

using namespace vitrine;
using namespace vitrine::driver;
using fuzz::check;
using fuzz::Input;
namespace wire = mem::vfio_user;

constexpr std::size_t page_bytes = 4096, window_pages = 32, guard_pages = 4;
constexpr std::size_t window_at = guard_pages * page_bytes, window_bytes = window_pages * page_bytes;
constexpr std::uint64_t iova_at = 0x10'0000;
constexpr int most_steps = 300;
constexpr std::byte canary{0xa5};

/// A file whose middle may be mapped for DMA; what lies around it must never change.
struct ClientMemory {
    mem::FileDescriptor file{::memfd_create("fuzz-client", MFD_CLOEXEC)};
    mem::Mapping mapping;

    ClientMemory() {
        constexpr std::size_t bytes = window_bytes + 2 * window_at;
        if (::ftruncate(file.get(), bytes) != 0) mem::throw_errno("ftruncate");
        mapping = mem::Mapping(file.get(), bytes, 0, mem::Access::read_write);
        std::ranges::fill(mapping.bytes(), canary);
    }
    std::span<std::byte> window() { return mapping.bytes().subspan(window_at, window_bytes); }
    void check_guards() {
        const auto intact = [](std::byte byte) { return byte == canary; };
        check(std::ranges::all_of(mapping.bytes().first(window_at), intact));
        check(std::ranges::all_of(mapping.bytes().last(window_at), intact));
    }
};

vf_sim::Policy policy(Input& input, unsigned number) {
    const unsigned choice = input.byte();
    vf_sim::Policy policy;
    policy.part = static_cast<vf_sim::Part>(choice % 3);
    policy.trusted = policy.promiscuous = (choice & 4) != 0;
    policy.queues = 1u << (choice >> 3 & 3);
    policy.mtu_bytes = (choice & 32) != 0 ? 9000 : 1500;
    policy.spoof_check = (choice & 64) != 0;
    policy.strict = policy.mdd = (choice & 128) != 0;
    policy.mac = mem::EthernetAddress{2, 0, 0, 0, 0, static_cast<std::uint8_t>(1 + number)};
    return policy;
}

/// One function with its driver.
class Client {
public:
    Client(Input& input, ClientMemory& memory, unsigned number, std::shared_ptr<vf_sim::Port> port)
        : vf(policy(input, number), std::move(port)),
          input_(input),
          memory_(memory),
          session_(vf, true),
          rings_at_(number * window_bytes / 2) {
        send(wire::Command::version, wire::Version{0, 0});
        for (unsigned page = 0; page < window_pages; page += window_pages / 4) map(page, window_pages / 4, page, 3);
        write(wire::config_region, 4, std::uint32_t{4});
        mailbox(MessageType::reset);
        mailbox(MessageType::negotiate_api, 4);
    }

    void step() {
        switch (input_.below(14)) {
            case 0:
                return write(wire::bar0_region, input_.take<std::uint16_t>() % bar0_bytes & ~3u, number());
            case 1:
                return read(wire::bar0_region, input_.take<std::uint16_t>() % bar0_bytes & ~3u);
            case 2:
                return start_receive();
            case 3:
                return start_transmit();
            case 4:
                return post_receive();
            case 5:
            case 6:
                return post_transmit();
            case 7:
                return tail();
            case 8:
                return mailbox(static_cast<MessageType>(input_.below(20)), number(), input_.byte());
            case 9:
                return map(input_.below(window_pages), 1 + input_.below(window_pages), input_.below(window_pages),
                           input_.below(4));
            case 10:
                return unmap(input_.below(window_pages), 1 + input_.below(window_pages));
            case 11:
                return interrupts();
            case 12:
                return write(input_.below(2) == 0 ? wire::config_region : wire::bar3_region,
                             input_.take<std::uint16_t>() % 0x400 & ~3u, number());
            default:
                if (input_.below(4) == 0) send_bytes(wire::Command::device_reset, {});
        }
    }

    vf_sim::Vf vf;

private:
    /// Often something that a register may well hold.
    std::uint32_t number() {
        constexpr std::array<std::uint32_t, 10> usual{0,           1,           7,           0x80, 0x3ff,
                                                      0x0200'0000, 0x0400'0000, 0x8180'8180, 64,   ~0u};
        const unsigned choice = input_.below(16);
        return choice < usual.size() ? usual[choice] : input_.take<std::uint32_t>();
    }
    std::uint32_t queue() { return input_.below(4) == 0 ? input_.below(queue_slots) : 0; }

    template <class T>
    void send(wire::Command command, const T& message, std::vector<mem::FileDescriptor> files = {}) {
        send_bytes(command, std::as_bytes(std::span(&message, 1)), std::move(files));
    }
    void send_bytes(wire::Command command, std::span<const std::byte> payload,
                    std::vector<mem::FileDescriptor> files = {}) {
        const wire::Header header{1, command, static_cast<std::uint32_t>(sizeof(wire::Header) + payload.size()), 0, 0};
        const auto reply = session_.handle(header, payload, std::move(files));
        check(reply.has_value());  // whatever the numbers in it, the message itself is well formed
    }
    void write(std::uint32_t region, std::uint64_t offset, std::uint32_t value) {
        std::array<std::byte, sizeof(wire::RegionAccess) + sizeof(value)> message;
        const wire::RegionAccess access{offset, region, sizeof(value)};
        std::memcpy(message.data(), &access, sizeof(access));
        std::memcpy(message.data() + sizeof(access), &value, sizeof(value));
        send_bytes(wire::Command::region_write, message);
    }
    void read(std::uint32_t region, std::uint64_t offset) {
        send(wire::Command::region_read, wire::RegionAccess{offset, region, 4});
    }
    template <class R, class... Index>
    void put(R value, Index... index) {
        write(wire::bar0_region, R::at(index...), value.raw);
    }

    void mailbox(MessageType type, std::uint32_t word_1 = 0, std::uint32_t info = 0) {
        put(VFMBMEM{head_of(type, info).raw}, 0u);
        put(VFMBMEM{word_1}, 1u);
        put(VFMBMEM{number()}, 2u);
        put(VFMAILBOX{}.with(VFMAILBOX::request, 1));
    }
    void map(unsigned at_page, unsigned pages, unsigned file_page, unsigned access) {
        std::vector<mem::FileDescriptor> file;
        file.push_back(mem::duplicate(memory_.file.get()));
        pages = std::min(pages, static_cast<unsigned>(window_pages) - file_page);
        send(wire::Command::dma_map,
             wire::DmaMap{sizeof(wire::DmaMap), access, window_at + file_page * page_bytes,
                          iova_at + at_page * page_bytes, pages * page_bytes},
             std::move(file));
    }
    void unmap(unsigned at_page, unsigned pages) {
        wire::DmaUnmap message{};
        message.argsz = sizeof(message);
        message.address = iova_at + at_page * page_bytes;
        message.size = pages * page_bytes;
        send(wire::Command::dma_unmap, message);
    }
    void interrupts() {
        const std::uint32_t start = input_.below(4), count = input_.below(4);
        constexpr std::array<std::uint32_t, 6> flags{0x24, 0x21, 0x09, 0x11, 0x22, 0x3f};
        const std::uint32_t flag = flags[input_.below(flags.size())];
        std::vector<mem::FileDescriptor> files;
        if (flag == flags[0])
            for (std::uint32_t i = 0; i < count; ++i) files.push_back(mem::duplicate(event_.get()));
        send(wire::Command::device_set_irqs, wire::IrqSet{20, flag, wire::msix_irq, start, count}, std::move(files));
        put(VTIVAR{number()}, 0u);
        put(VTEIMS{number()});
        put(VTEITR{number()}, 0u);
    }

    mem::Iova receive_ring() const { return {iova_at + rings_at_}; }
    mem::Iova transmit_ring() const { return {iova_at + rings_at_ + page_bytes}; }
    /// Mostly in a page of its own, now and then just before the end of one, behind which nothing may be mapped.
    std::uint64_t buffer() {
        const std::uint64_t page = iova_at + rings_at_ + (2 + input_.below(14)) * page_bytes;
        const unsigned choice = input_.below(16), offset = input_.below(64);
        return choice == 0 ? input_.take<std::uint32_t>() : choice < 4 ? page + page_bytes - offset : page + offset;
    }
    std::uint32_t slots() { return 8u << input_.below(6); }
    void start_receive() {
        const std::uint32_t q = queue();
        put(VFRXDCTL{}, q);
        put(VFRDBAL{static_cast<std::uint32_t>(receive_ring().raw)}, q);
        put(VFRDBAH{}, q);
        put(VFRDLEN{input_.below(16) == 0 ? number() : slots() * 16}, q);
        put(VFRDH{}, q);
        put(VFSRRCTL{}
                .with(VFSRRCTL::packet_buffer_kib, input_.below(20))
                .with(VFSRRCTL::descriptor_type, input_.below(16) == 0 ? input_.below(8) : 1u),
            q);
        put(VFRXDCTL{input_.below(4) == 0 ? number() : 0}.with(VFRXDCTL::enable, 1), q);
    }
    void start_transmit() {
        const std::uint32_t q = queue();
        put(VFTXDCTL{}, q);
        put(VFTDBAL{static_cast<std::uint32_t>(transmit_ring().raw)}, q);
        put(VFTDBAH{}, q);
        put(VFTDLEN{input_.below(16) == 0 ? number() : slots() * 16}, q);
        put(VFTDH{}, q);
        put(VFTXDCTL{input_.below(4) == 0 ? number() : 0}.with(VFTXDCTL::enable, 1), q);
    }
    std::span<std::byte> slot(mem::Iova ring) {
        return memory_.window().subspan(ring.raw - iova_at + input_.byte() * std::size_t{16}, 16);
    }
    void store(std::span<std::byte> slot, std::uint64_t low, std::uint64_t high) {
        std::memcpy(slot.data(), &low, 8);
        std::memcpy(slot.data() + 8, &high, 8);
    }
    void post_receive() {
        for (unsigned count = 1 + input_.below(8); count > 0; --count)
            store(slot(receive_ring()), buffer(), input_.take<std::uint8_t>());
        tail();
    }
    /// A context or data, each field of which may be anything; and what the data may point to.
    void post_transmit() {
        const auto at = slot(transmit_ring());
        if (input_.below(3) == 0)
            return store(at, input_.take<std::uint64_t>(),
                         TxContext{input_.take<std::uint64_t>()}
                             .with(TxContext::type, TxContext::context_type)
                             .with(TxContext::advanced, 1)
                             .raw);
        const std::uint64_t address = buffer();
        store(at, address,
              TxData{input_.take<std::uint64_t>()}
                  .with(TxData::type, input_.below(16) == 0 ? input_.below(16) : TxData::data_type)
                  .with(TxData::advanced, input_.below(16) != 0)
                  .with(TxData::insert_crc, input_.below(16) != 0)
                  .with(TxData::buffer_bytes, input_.below(8) == 0 ? input_.take<std::uint16_t>() : input_.byte() * 8u)
                  .with(TxData::end_of_packet, input_.below(3) != 0)
                  .raw);
        if (address < iova_at || address - iova_at > window_bytes - 256) return;
        const auto bytes = input_.take_bytes(input_.byte());
        std::memcpy(memory_.window().data() + (address - iova_at), bytes.data(), bytes.size());
    }
    /// In the shared page, as a client with mapped doorbells does.
    void tail() {
        const std::uint32_t q = queue();
        const std::uint32_t at = input_.below(2) == 0 ? VFRDT::at(q) : VFTDT::at(q);
        auto* word = reinterpret_cast<std::uint32_t*>(vf.doorbells().mapping.data() + at);
        const std::uint32_t value = input_.below(8) == 0 ? input_.take<std::uint32_t>() : input_.byte();
        std::atomic_ref(*word).store(value, std::memory_order_release);
    }

    Input& input_;
    ClientMemory& memory_;
    vf_sim::VfioUserSession session_;
    mem::EventFd event_;
    std::size_t rings_at_;
};

class Fuzzer {
public:
    Fuzzer(Input input, ClientMemory& memory)
        : input_(input), clients_{Client(input_, memory, 0, port_), Client(input_, memory, 1, port_)} {
        for (Client& client : clients_) bridge_.add(client.vf.pf());
    }

    void run() {
        for (int steps = 0; steps < most_steps && !input_.empty(); ++steps) {
            const unsigned choice = input_.below(16);
            Client& client = clients_[choice % 2];
            if (choice < 10)
                client.step();
            else if (choice < 12)
                transmit();
            else if (choice < 14)
                receive();
            else if (choice == 14)
                command();
            now_ += std::chrono::microseconds(input_.take<std::uint16_t>());
            for (Client& each : clients_) {
                each.vf.advance(now_);
                (void)each.vf.due();
            }
        }
        for (const Client& client : clients_)
            check(client.vf.tx_counters().sent_bytes >= 60 * client.vf.tx_counters().sent);
    }

private:
    void transmit() {
        for (std::size_t sender = 0; sender < clients_.size(); ++sender)
            clients_[sender].vf.transmit(32, [&](std::span<const std::byte> frame) {
                check(frame.size() >= 60 && frame.size() <= 16384);
                const auto route = bridge_.route(sender, vf_sim::FrameView(frame));
                check(!route.functions[sender]);
                for (std::size_t i = 0; i < clients_.size(); ++i)
                    if (route.functions[i]) clients_[i].vf.receive(frame, vf_sim::Origin::function);
            });
    }
    void receive() {
        std::vector<std::byte> frame(14 + input_.take<std::uint16_t>() % 10000);
        const auto bytes = input_.take_bytes(std::min<std::size_t>(input_.byte(), frame.size()));
        std::memcpy(frame.data(), bytes.data(), bytes.size());
        if (input_.below(2) == 0) {  // to one of them
            const auto address = clients_[input_.below(2)].vf.pf().address();
            std::memcpy(frame.data(), address.data(), address.size());
        }
        for (Client& client : clients_) client.vf.receive(frame, vf_sim::Origin::wire);
    }
    void command() {
        constexpr std::array lines{"link down",
                                   "link up",
                                   "pf-reset 5",
                                   "mtu 9000",
                                   "mtu 1500",
                                   "promiscuous on",
                                   "mac none",
                                   "mac 02:00:00:00:00:07",
                                   "vlan 5",
                                   "vlan none",
                                   "trust on",
                                   "trust off",
                                   "spoof-check off",
                                   "rate 10",
                                   "rate 0",
                                   "state disable",
                                   "state auto",
                                   "query-rss on",
                                   "fault clear",
                                   "fault mailbox-nack",
                                   "fault removed",
                                   "fault dma",
                                   "fault tx-stuck",
                                   "fault tx-lost",
                                   "fault rx-stall",
                                   "fault rx-delay 3",
                                   "fault rx-reorder 2",
                                   "fault rx-duplicate",
                                   "fault link-flap 1",
                                   "fault lie length 65535",
                                   "fault rsti",
                                   "fault lie done 0",
                                   "flr"};
        const std::string line = lines[input_.below(lines.size())];
        const std::array<vf_sim::Vf*, 2> vfs{&clients_[0].vf, &clients_[1].vf};
        vf_sim::execute(line, vfs);
    }

    Input input_;
    std::shared_ptr<vf_sim::Port> port_ = std::make_shared<vf_sim::Port>();
    std::array<Client, 2> clients_;
    vf_sim::Switch bridge_;
    vf_sim::Time now_{std::chrono::seconds(1)};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static ClientMemory memory;
    Fuzzer(Input(data, size), memory).run();
    memory.check_guards();
    return 0;
}
