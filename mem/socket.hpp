#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "mem/file_descriptor.hpp"

namespace vitrine::mem {

/// Linux passes at most this many descriptors with one message (SCM_MAX_FD).
inline constexpr std::size_t most_passed_descriptors = 253;

enum class SocketType { stream, seqpacket };

/// Listens on a UNIX socket with the given mode bits. A stale socket file that nobody listens on is replaced; a live
/// one is an error (EADDRINUSE). Throws std::system_error naming the path, e.g. when the directory is missing.
FileDescriptor listen_unix(const std::string& path, SocketType type = SocketType::stream, unsigned mode = 0660);
/// Throws std::system_error naming the path (ENOENT, ECONNREFUSED when nobody listens, EAGAIN when the
/// listener's queue is full). Never waits.
FileDescriptor connect_unix(const std::string& path, SocketType type = SocketType::stream);
/// Accepts one connection; none (false) when nobody is waiting on a non-blocking listener.
FileDescriptor accept_unix(int listener);

/// Sends all of `bytes`, with `descriptors` on the first byte. Never raises SIGPIPE. Throws std::system_error
/// (EPIPE, ETIMEDOUT when the peer does not read within `limit`).
void send_all(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors,
              std::chrono::milliseconds limit);

/// Receives exactly `bytes.size()` bytes from a stream and adds the descriptors that came with them.
/// False at an orderly end before the first byte. Throws std::system_error: ETIMEDOUT when the rest does not come
/// within `limit`, ECONNRESET at an end inside, EMSGSIZE when descriptors were cut off.
bool receive_exact(int socket, std::span<std::byte> bytes, std::vector<FileDescriptor>& descriptors,
                   std::chrono::milliseconds limit);

/// True when a read would not block (data or end of stream), waiting at most `limit`.
bool wait_readable(int socket, std::chrono::milliseconds limit);

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}
template <class T>
std::span<std::byte> writable_bytes_of(T& value) {
    return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace vitrine::mem
