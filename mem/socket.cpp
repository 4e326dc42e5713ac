#include "mem/socket.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <system_error>
#include <unistd.h>

namespace vitrine::mem {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path))
        throw std::system_error(ENAMETOOLONG, std::generic_category(), "socket " + path);
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

FileDescriptor make_socket(SocketType type, const std::string& path) {
    const int kind = type == SocketType::stream ? SOCK_STREAM : SOCK_SEQPACKET;
    FileDescriptor socket(::socket(AF_UNIX, kind | SOCK_CLOEXEC, 0));
    if (!socket) throw_errno("socket for " + path);
    return socket;
}

const sockaddr* generic(const sockaddr_un& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

/// Waits for `events`; throws ETIMEDOUT at the deadline.
void wait_for(int socket, short events, Clock::time_point deadline, const char* attempt) {
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
        pollfd entry{socket, events, 0};
        const int ready = left > 0 ? ::poll(&entry, 1, static_cast<int>(left)) : 0;
        if (ready > 0) return;
        if (ready == 0) throw std::system_error(ETIMEDOUT, std::generic_category(), attempt);
        if (errno != EINTR) throw_errno(attempt);
    }
}

union ControlBuffer {
    cmsghdr align;
    char bytes[CMSG_SPACE(most_passed_descriptors * sizeof(int))];
};

void collect_descriptors(msghdr& message, std::vector<FileDescriptor>& descriptors) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            descriptors.emplace_back(number);
        }
    }
}

}  // namespace

FileDescriptor listen_unix(const std::string& path, SocketType type, unsigned mode) {
    const sockaddr_un address = address_of(path);
    FileDescriptor socket = make_socket(type, path);
    struct stat status{};
    const bool exists = ::lstat(path.c_str(), &status) == 0;
    if (exists && !S_ISSOCK(status.st_mode))
        throw std::system_error(EEXIST, std::generic_category(),
                                "listen on " + path + ": something else is there (remove it, or choose another path)");
    if (exists) {
        FileDescriptor probe = make_socket(type, path);
        if (::fcntl(probe.get(), F_SETFL, O_NONBLOCK) != 0) throw_errno("listen on " + path);
        // EAGAIN: so many wait there that we would have to wait behind them.
        if (::connect(probe.get(), generic(address), sizeof(address)) == 0 || errno == EAGAIN)
            throw std::system_error(EADDRINUSE, std::generic_category(),
                                    "listen on " + path + ": another process does (end it, or choose another path)");
        if (errno == ECONNREFUSED) ::unlink(path.c_str());
    }
    const mode_t before = ::umask(0777 & ~mode);
    const int bound = ::bind(socket.get(), generic(address), sizeof(address));
    const int bind_error = errno;
    ::umask(before);
    if (bound != 0) {
        errno = bind_error;
        throw_errno("listen on " + path + (bind_error == ENOENT ? ": no such directory (create it)" : ""));
    }
    if (::listen(socket.get(), 4) != 0) throw_errno("listen on " + path);
    if (::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) throw_errno("listen on " + path);
    return socket;
}

FileDescriptor connect_unix(const std::string& path, SocketType type) {
    const sockaddr_un address = address_of(path);
    FileDescriptor socket = make_socket(type, path);
    // A listener with a full backlog would otherwise hold us up without a limit.
    if (::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) throw_errno("connect to " + path);
    if (::connect(socket.get(), generic(address), sizeof(address)) != 0) throw_errno("connect to " + path);
    if (::fcntl(socket.get(), F_SETFL, 0) != 0) throw_errno("connect to " + path);
    return socket;
}

FileDescriptor accept_unix(int listener) {
    FileDescriptor connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) throw_errno("accept");
    return connection;
}

void send_all(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors, milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    ControlBuffer control{};
    while (!bytes.empty()) {
        iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        if (!descriptors.empty()) {
            message.msg_control = control.bytes;
            message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
            cmsghdr* part = CMSG_FIRSTHDR(&message);
            part->cmsg_level = SOL_SOCKET;
            part->cmsg_type = SCM_RIGHTS;
            part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
            std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
        }
        const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
            descriptors = {};
        } else if (errno == EAGAIN) {
            wait_for(socket, POLLOUT, deadline, "send: the peer does not read");
        } else if (errno != EINTR) {
            throw_errno("send");
        }
    }
}

bool receive_exact(int socket, std::span<std::byte> bytes, std::vector<FileDescriptor>& descriptors,
                   milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    const std::size_t wanted = bytes.size();
    ControlBuffer control{};
    while (!bytes.empty()) {
        iovec piece{bytes.data(), bytes.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (got > 0) {
            collect_descriptors(message, descriptors);
            if ((message.msg_flags & MSG_CTRUNC) != 0)
                throw std::system_error(EMSGSIZE, std::generic_category(), "receive: descriptors were cut off");
            bytes = bytes.subspan(static_cast<std::size_t>(got));
        } else if (got == 0) {
            if (bytes.size() == wanted) return false;
            throw std::system_error(ECONNRESET, std::generic_category(), "receive: the peer ended inside a message");
        } else if (errno == EAGAIN) {
            wait_for(socket, POLLIN, deadline, "receive: the rest of the message does not come");
        } else if (errno != EINTR) {
            throw_errno("receive");
        }
    }
    return true;
}

bool wait_readable(int socket, milliseconds limit) {
    pollfd entry{socket, POLLIN, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(limit.count()));
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    return ready > 0;
}

}  // namespace vitrine::mem
