#include "tests/driver/fake_server.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "driver/registers.hpp"
#include "mem/mapping.hpp"
#include "mem/socket.hpp"

namespace vitrine::tests {

namespace wire = mem::vfio_user;
using wire::Command;

namespace {

template <class T>
void append(std::vector<std::byte>& bytes, const T& value) {
    const auto raw = mem::bytes_of(value);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
}

template <class T>
T front(const std::vector<std::byte>& bytes) {
    T value{};
    std::memcpy(&value, bytes.data(), std::min(sizeof(T), bytes.size()));
    return value;
}

}  // namespace

FakeServer::FakeServer(Tails tails) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) mem::throw_errno("socketpair");
    client_ = mem::FileDescriptor(pair[0]);
    socket_ = mem::FileDescriptor(pair[1]);
    if (tails == Tails::none) return;
    tails_file_ = mem::FileDescriptor(::memfd_create("tails", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (::ftruncate(tails_file_.get(), driver::bar0_bytes) != 0) mem::throw_errno("ftruncate");
    if (tails == Tails::sealed) ::fcntl(tails_file_.get(), F_ADD_SEALS, F_SEAL_SHRINK);
    tails_map_ = mem::Mapping(tails_file_.get(), driver::bar0_bytes, 0, mem::Access::read_write);
}

FakeServer::~FakeServer() {
    die();
    if (thread_.joinable()) thread_.join();
}

void FakeServer::start() {
    thread_ = std::thread(&FakeServer::serve, this);
}

void FakeServer::die() {
    ::shutdown(socket_.get(), SHUT_RDWR);
}

std::vector<FakeServer::Message> FakeServer::messages(Command command) {
    const std::scoped_lock lock(mutex_);
    std::vector<Message> result;
    std::ranges::copy_if(seen_, std::back_inserter(result),
                         [&](const Message& message) { return message.header.command == command; });
    return result;
}

std::uint32_t FakeServer::bar0(std::uint32_t offset) {
    const std::scoped_lock lock(mutex_);
    return bar0_[offset];
}

std::uint32_t FakeServer::tail_page(std::uint32_t offset) const {
    std::uint32_t value = 0;
    std::memcpy(&value, tails_map_.data() + offset, sizeof(value));
    return value;
}

void FakeServer::serve() try {
    constexpr std::chrono::seconds limit(5);
    for (;;) {
        Message message;
        std::vector<mem::FileDescriptor> descriptors;
        if (!mem::receive_exact(socket_.get(), mem::writable_bytes_of(message.header), descriptors, limit)) return;
        message.payload.resize(message.header.size - sizeof(wire::Header));
        if (!message.payload.empty()) mem::receive_exact(socket_.get(), message.payload, descriptors, limit);
        message.descriptors = descriptors.size();
        Answer reply = answer(message);
        if (twist) twist(message, reply);
        {
            const std::scoped_lock lock(mutex_);
            seen_.push_back(message);
        }
        if (reply.close) return die();
        if (reply.swallow || (message.header.flags & wire::flag_no_reply) != 0) continue;
        std::vector<std::byte> bytes;
        append(bytes, reply.header);
        bytes.insert(bytes.end(), reply.payload.begin(), reply.payload.end());
        mem::send_all(socket_.get(), bytes, reply.descriptors, limit);
    }
} catch (const std::system_error&) {
    // The client is gone.
}

FakeServer::Answer FakeServer::answer(const Message& message) {
    Answer result{};
    std::vector<std::byte>& payload = result.payload;
    switch (message.header.command) {
        case Command::version:
            append(payload, wire::Version{});
            for (const char character : capabilities) payload.push_back(std::byte(character));
            payload.push_back(std::byte{0});
            break;
        case Command::device_get_info:
            append(payload, wire::DeviceInfo{sizeof(wire::DeviceInfo), wire::device_is_pci, 9, 5});
            break;
        case Command::device_get_region_info:
            payload = region_info(message, result.descriptors);
            break;
        case Command::region_read: {
            const auto access = front<wire::RegionAccess>(message.payload);
            append(payload, access);
            const std::scoped_lock lock(mutex_);
            const std::uint32_t value =
                access.region == wire::config_region ? 0x10ed'8086u >> (8 * access.offset) : bar0_[access.offset];
            const auto bytes = mem::bytes_of(value).first(std::min<std::size_t>(access.count, sizeof(value)));
            payload.insert(payload.end(), bytes.begin(), bytes.end());
            break;
        }
        case Command::region_write: {
            const auto access = front<wire::RegionAccess>(message.payload);
            append(payload, access);
            std::uint32_t value = 0;
            std::memcpy(&value, message.payload.data() + sizeof(access), std::min<std::size_t>(access.count, 4));
            const std::scoped_lock lock(mutex_);
            bar0_[access.offset] = value;
            break;
        }
        default:
            break;
    }
    result.header = {.message_id = message.header.message_id,
                     .command = message.header.command,
                     .size = static_cast<std::uint32_t>(sizeof(wire::Header) + payload.size()),
                     .flags = wire::flag_reply,
                     .error = 0};
    return result;
}

std::vector<std::byte> FakeServer::region_info(const Message& message, std::vector<int>& descriptors) const {
    const auto request = front<wire::RegionInfo>(message.payload);
    wire::RegionInfo info{.argsz = sizeof(info),
                          .flags = wire::region_readable | wire::region_writable,
                          .index = request.index,
                          .cap_offset = 0,
                          .size = driver::bar0_bytes,
                          .offset = 0};
    std::vector<std::byte> payload;
    if (tails_file_) {
        info.argsz += sizeof(wire::SparseMmapCap) + sizeof(wire::SparseArea);
        info.flags |= wire::region_mappable | wire::region_has_caps;
        if (request.argsz >= info.argsz) {
            info.cap_offset = sizeof(info);
            append(payload, info);
            append(payload, wire::SparseMmapCap{wire::sparse_mmap_cap_id, 1, 0, 1, 0});
            append(payload, wire::SparseArea{0x1000, 0x2000});
            descriptors.push_back(tails_file_.get());
            return payload;
        }
    }
    append(payload, info);
    return payload;
}

}  // namespace vitrine::tests
