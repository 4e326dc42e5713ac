#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "mem/file_descriptor.hpp"
#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/vf.hpp"
#include "tools/vf_sim/vfio_user_session.hpp"

namespace vitrine::vf_sim {

/// One function of the port: the VF, the socket that it listens on, whoever is connected there, and its books.
class Function {
public:
    /// Listens. Throws std::system_error naming the path.
    Function(std::string socket_path, const Policy& policy, bool offer_doorbells, std::shared_ptr<Port> port);
    ~Function();  ///< removes the socket
    Function(const Function&) = delete;
    Function& operator=(const Function&) = delete;

    Vf& vf() { return vf_; }
    const Vf& vf() const { return vf_; }
    bool connected() const { return client_.has_value(); }
    /// The client's socket, or the one that clients come to; serve() when it is readable.
    int descriptor() const { return client_ ? client_->socket.get() : listener_.get(); }
    /// Accepts, or answers some messages. A connection that is over makes room for the next.
    void serve();
    void drop_client();

    void report(nlohmann::json& status) const;

    RxCounters from_wire;       ///< every frame that the wire offered
    RxCounters from_functions;  ///< those that the switch brought here
    std::uint64_t to_wire = 0;  ///< of the frames that the VF sent; the others stayed inside

private:
    struct Client {
        mem::FileDescriptor socket;
        VfioUserSession session;
    };
    /// False when the connection is over.
    bool serve_messages();

    std::string socket_path_;
    bool offer_doorbells_;
    Vf vf_;
    mem::FileDescriptor listener_;
    std::optional<Client> client_;
    std::uint64_t sessions_ = 0;
    std::uint64_t broken_sessions_ = 0;  // ended by a socket error or inside a message
    std::map<Malformed, std::uint64_t> malformed_;
};

}  // namespace vitrine::vf_sim
