#include "driver/vfio_user_connection.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include "driver/failure.hpp"
#include "mem/socket.hpp"

namespace vitrine::driver {

namespace wire = mem::vfio_user;

VfioUserConnection::VfioUserConnection(mem::FileDescriptor socket, std::chrono::milliseconds limit)
    : socket_(std::move(socket)), limit_(limit) {}

VfioUserConnection::Reply VfioUserConnection::call(const std::string& attempt, wire::Command command,
                                                   std::initializer_list<std::span<const std::byte>> parts,
                                                   std::span<const int> descriptors, std::size_t least_bytes,
                                                   std::size_t most_bytes) {
    std::vector<std::byte> message(sizeof(wire::Header));
    for (const auto part : parts) message.insert(message.end(), part.begin(), part.end());
    last_id_ = static_cast<std::uint16_t>(last_id_ == 0xffff ? 1 : last_id_ + 1);  // 0 is that of doorbells
    const wire::Header request{.message_id = last_id_,
                               .command = command,
                               .size = static_cast<std::uint32_t>(message.size()),
                               .flags = 0,
                               .error = 0};
    std::ranges::copy(mem::bytes_of(request), message.begin());
    try {
        mem::send_all(socket_.get(), message, descriptors, limit_);
    } catch (const std::system_error& error) {
        break_off(error.code().value(), attempt);
    }

    Reply reply;
    wire::Header header{};
    receive(mem::writable_bytes_of(header), reply.descriptors, attempt);
    const bool is_reply = (header.flags & wire::flag_type_mask) == wire::flag_reply;
    if (!is_reply || header.message_id != request.message_id || header.command != request.command)
        break_off(EPROTO, attempt + ": the server answered something else");
    const bool refused = (header.flags & wire::flag_error) != 0;
    if (refused) least_bytes = most_bytes = 0;
    if (header.size < sizeof(header) + least_bytes || header.size > sizeof(header) + most_bytes)
        break_off(EPROTO, attempt + ": the server answered with " + std::to_string(header.size) + " bytes");
    if (refused) {
        const bool known = header.error > 0 && header.error < 4096;  // Linux error numbers
        fail(known ? static_cast<int>(header.error) : EIO, "vfio-user " + attempt + ": refused by the server");
    }
    reply.payload.resize(header.size - sizeof(header));
    receive(reply.payload, reply.descriptors, attempt);
    return reply;
}

void VfioUserConnection::receive(std::span<std::byte> bytes, std::vector<mem::FileDescriptor>& descriptors,
                                 const std::string& attempt) {
    bool is_open = false;
    try {
        is_open = mem::receive_exact(socket_.get(), bytes, descriptors, limit_);
    } catch (const std::system_error& error) {
        break_off(error.code().value(), attempt);
    }
    if (!is_open) break_off(ECONNRESET, attempt + ": the server closed the connection");
}

void VfioUserConnection::break_off(int error, const std::string& attempt) {
    // What comes from now on cannot be told apart from a late answer.
    ::shutdown(socket_.get(), SHUT_RDWR);
    fail(error, "vfio-user " + attempt);
}

}  // namespace vitrine::driver
