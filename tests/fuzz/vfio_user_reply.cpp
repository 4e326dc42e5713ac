#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <span>
#include <sys/mman.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "driver/registers.hpp"
#include "driver/vfio_user_device.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/socket.hpp"
#include "mem/vfio_user.hpp"

/// A vfio-user server that answers what it likes. The client must end with a value or an error, never hang, and never
/// touch memory that the server did not really offer.
///
/// The input is a list of answers {flags, length (16 bits), bytes}. They wait in the socket before the client asks:
/// it asks in a known order, so that each answer can be given a fitting header, unless its flags say that it has its
/// own.
namespace {

using namespace vitrine;
namespace wire = mem::vfio_user;
using wire::Command;

constexpr std::uint8_t has_own_header = 1;
constexpr std::uint8_t with_sealed_file = 2;
constexpr std::uint8_t with_open_file = 4;
constexpr std::uint8_t as_error = 8;

mem::FileDescriptor make_file(bool sealed) {
    mem::FileDescriptor file(::memfd_create("bar0", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (::ftruncate(file.get(), driver::bar0_bytes) != 0) mem::throw_errno("ftruncate");
    if (sealed && ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) mem::throw_errno("seal");
    return file;
}

class Server {
public:
    explicit Server(int socket) : socket_(socket) {}

    void answer(std::uint8_t flags, std::span<const std::byte> bytes) {
        std::vector<std::byte> message;
        const Command command = next_command();
        if ((flags & has_own_header) == 0) {
            const wire::Header header{.message_id = ++id_,
                                      .command = command,
                                      .size = static_cast<std::uint32_t>(sizeof(wire::Header) + bytes.size()),
                                      .flags = wire::flag_reply | ((flags & as_error) != 0 ? wire::flag_error : 0),
                                      .error = 5};
            const auto raw = mem::bytes_of(header);
            message.assign(raw.begin(), raw.end());
        }
        message.insert(message.end(), bytes.begin(), bytes.end());
        if (message.empty()) return;
        static const mem::FileDescriptor sealed = make_file(true), open = make_file(false);
        std::vector<int> files;
        if ((flags & with_sealed_file) != 0) files.push_back(sealed.get());
        if ((flags & with_open_file) != 0) files.push_back(open.get());
        mem::send_all(socket_, message, files, std::chrono::milliseconds(0));
        last_ = command;
        last_argsz_ = 0;
        if (bytes.size() >= sizeof(last_argsz_)) std::memcpy(&last_argsz_, bytes.data(), sizeof(last_argsz_));
    }

private:
    /// What the client will ask next: it looks at a region twice when the first answer says that there is more.
    Command next_command() {
        constexpr std::array order{Command::version,     Command::device_get_info, Command::device_get_region_info,
                                   Command::region_read, Command::region_write,    Command::region_read,
                                   Command::dma_map,     Command::dma_unmap,       Command::device_set_irqs,
                                   Command::device_reset};
        const bool again = last_ == Command::device_get_region_info && !asked_again_ &&
                           last_argsz_ > sizeof(wire::RegionInfo) && last_argsz_ <= 4096;
        if (again) {
            asked_again_ = true;
            return last_;
        }
        return step_ < order.size() ? order[step_++] : Command::device_reset;
    }

    int socket_;
    std::uint16_t id_ = 0;
    std::size_t step_ = 0;
    Command last_ = Command::version;
    std::uint32_t last_argsz_ = 0;
    bool asked_again_ = false;
};

void converse(mem::FileDescriptor client) {
    driver::VfioUserDevice device(std::move(client), std::chrono::milliseconds(20));
    driver::Doorbell tail = device.doorbell(driver::VFTDT::at(7));
    tail.ring(1);
    device.doorbell(driver::VFRDT::at(0)).ring(1);
    device.load(driver::VFSTATUS::at());
    device.store(driver::VFCTRL::at(), 0);
    device.read_config(0);
    std::array<std::byte, 4096> memory{};
    const mem::EventFd event;
    device.map_dma(mem::Iova{0x1000}, {memory, event.get(), 0}, driver::DmaAccess::device_reads);
    device.unmap_dma(mem::Iova{0x1000}, memory.size());
    device.set_interrupts(std::array{event.get()});
    device.reset();
    tail.ring(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t most_bytes = 16 * 1024;  // fits into the socket's buffer
    if (size > most_bytes) return 0;
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return 0;
    mem::FileDescriptor client(pair[0]);
    const mem::FileDescriptor server_socket(pair[1]);
    try {
        Server server(server_socket.get());
        auto rest = std::as_bytes(std::span(data, size));
        for (int answers = 0; rest.size() >= 3 && answers < 64; ++answers) {
            const auto flags = std::to_integer<std::uint8_t>(rest[0]);
            const std::size_t wanted = std::to_integer<std::size_t>(rest[1]) | std::to_integer<std::size_t>(rest[2])
                                                                                   << 8;
            rest = rest.subspan(3);
            const std::size_t length = std::min(wanted, rest.size());
            server.answer(flags, rest.first(length));
            rest = rest.subspan(length);
        }
        ::shutdown(server_socket.get(), SHUT_WR);  // nothing more comes: the client need not wait
        converse(std::move(client));
    } catch (const std::system_error&) {
        // The server's doing.
    }
    return 0;
}
