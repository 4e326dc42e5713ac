#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "mem/vfio_user.hpp"

namespace vitrine::driver {

/// The client's end of a vfio-user socket: one request, one reply, in turn. Control thread only.
///
/// The server is not trusted: a reply with another id or command, of a wrong size, or none within the limit breaks the
/// connection for good (both directions are shut down, so doorbells on it fall silent), and each later call fails.
/// Commands from the server are never expected: without twin sockets we offer no DMA by message.
class VfioUserConnection {
public:
    VfioUserConnection(mem::FileDescriptor socket, std::chrono::milliseconds limit);

    struct Reply {
        std::vector<std::byte> payload;
        std::vector<mem::FileDescriptor> descriptors;
    };

    /// Sends `parts` one behind the other and waits for the reply, whose payload has `least_bytes` to `most_bytes`.
    /// Throws std::system_error naming `attempt`: the server's errno if it refused (the connection goes on), ETIMEDOUT,
    /// EPIPE or ECONNRESET when it is gone, EPROTO when it does not keep to the protocol.
    Reply call(const std::string& attempt, mem::vfio_user::Command command,
               std::initializer_list<std::span<const std::byte>> parts, std::span<const int> descriptors,
               std::size_t least_bytes, std::size_t most_bytes);

    int descriptor() const { return socket_.get(); }

private:
    void receive(std::span<std::byte> bytes, std::vector<mem::FileDescriptor>& descriptors, const std::string& attempt);
    [[noreturn]] void break_off(int error, const std::string& attempt);

    mem::FileDescriptor socket_;
    std::chrono::milliseconds limit_;
    std::uint16_t last_id_ = 0;
};

}  // namespace vitrine::driver
