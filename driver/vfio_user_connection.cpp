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
    const wire::Header header{.message_id = last_id_,
                              .command = command,
                              .size = static_cast<std::uint32_t>(message.size()),
                              .flags = 0,
                              .error = 0};
    std::ranges::copy(mem::bytes_of(header), message.begin());

    int refusal = 0;
    try {
        Reply reply = exchange(header, message, descriptors, least_bytes, most_bytes, refusal);
        if (refusal == 0) return reply;
    } catch (const std::system_error& error) {
        // What comes from now on cannot be told apart from a late answer.
        ::shutdown(socket_.get(), SHUT_RDWR);
        throw std::system_error(error.code(), "vfio-user " + attempt + ": " + error.what());
    }
    fail(refusal, "vfio-user " + attempt + ": refused by the server");
}

VfioUserConnection::Reply VfioUserConnection::exchange(const wire::Header& request, std::span<const std::byte> message,
                                                       std::span<const int> descriptors, std::size_t least_bytes,
                                                       std::size_t most_bytes, int& refusal) {
    mem::send_all(socket_.get(), message, descriptors, limit_);

    Reply reply;
    wire::Header header;
    if (!mem::receive_exact(socket_.get(), mem::writable_bytes_of(header), reply.descriptors, limit_))
        fail(ECONNRESET, "the server closed the connection");
    const bool is_reply = (header.flags & wire::flag_type_mask) == wire::flag_reply;
    if (!is_reply || header.message_id != request.message_id || header.command != request.command)
        fail(EPROTO, "the server answered something else");

    if ((header.flags & wire::flag_error) != 0) {
        if (header.size != sizeof(header)) fail(EPROTO, "the server sent an error with contents");
        const bool known = header.error > 0 && header.error < 4096;  // Linux error numbers
        refusal = known ? static_cast<int>(header.error) : EIO;
        return reply;
    }
    if (header.size < sizeof(header) + least_bytes || header.size > sizeof(header) + most_bytes)
        fail(EPROTO, "the server answered with " + std::to_string(header.size) + " bytes");
    reply.payload.resize(header.size - sizeof(header));
    if (!reply.payload.empty() && !mem::receive_exact(socket_.get(), reply.payload, reply.descriptors, limit_))
        fail(ECONNRESET, "the server closed the connection");
    return reply;
}

}  // namespace vitrine::driver
