#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "apps/vitrine/event_loop.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::apps {

/// JSON-RPC 2.0, one request a line, on a UNIX socket. A client that sends nonsense gets an error, one that sends more
/// than 4 KiB without a line end or does not read its answer is cut off.
class ControlSocket {
public:
    /// Answers a method, or throws std::invalid_argument for one that does not exist.
    using Handler = std::function<nlohmann::json(const std::string& method)>;

    /// Throws std::system_error naming the path.
    ControlSocket(EventLoop& loop, const std::string& path, Handler handler);
    ~ControlSocket();
    ControlSocket(const ControlSocket&) = delete;
    ControlSocket& operator=(const ControlSocket&) = delete;

    /// Tries to accept a client that failed for want of descriptors.
    std::uint64_t accept_failures() const { return accept_failures_; }

private:
    struct Client {
        mem::FileDescriptor socket;
        std::string pending;
    };
    using Clients = std::list<Client>;

    void accept();
    void serve(Clients::iterator client);
    void drop(Clients::iterator client);
    std::string answer(const std::string& line) const;

    EventLoop& loop_;
    std::string path_;
    Handler handler_;
    mem::FileDescriptor listener_;
    Clients clients_;
    std::uint64_t accept_failures_ = 0;
};

}  // namespace vitrine::apps
