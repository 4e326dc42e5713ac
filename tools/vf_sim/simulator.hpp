#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tools/vf_sim/control.hpp"
#include "tools/vf_sim/idle.hpp"
#include "tools/vf_sim/vf.hpp"
#include "tools/vf_sim/vfio_user_session.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::vf_sim {

struct Options {
    std::string socket_path;
    std::string control_path;  ///< none: no control socket
    std::string wire = "null";
    bool offer_doorbells = false;  ///< --doorbells=poll
    bool busy = false;             ///< --poll=busy
    Policy policy;
};

/// One VF on one wire behind one vfio-user socket; all in the thread that calls run().
class Simulator {
public:
    /// Listens. Throws std::system_error, std::runtime_error or std::invalid_argument naming what is wrong.
    explicit Simulator(const Options& options);
    ~Simulator();  ///< removes the sockets

    /// Until `stop` is set. Looks at it at least every 50 ms.
    void run(const std::atomic<bool>& stop);

    nlohmann::json status() const;
    /// `status`, `link down`, `link up`, `pf-reset [MILLISECONDS]`. Answers with the status or {"error": ...}.
    std::string command(const std::string& line);

private:
    struct Client {
        mem::FileDescriptor socket;
        VfioUserSession session;
    };

    bool move_frames(Time now);
    bool receive_from_wire(Time now);
    bool serve_sockets(std::chrono::nanoseconds wait);
    std::chrono::nanoseconds sleep_time(Time now, bool worked);
    bool doorbells_need_polling() const;
    void accept_client();
    /// One message; false when the connection is over.
    bool serve_client();
    void drop_client();

    Options options_;
    Vf vf_;
    std::unique_ptr<Wire> wire_;
    mem::FileDescriptor listener_;
    std::optional<Control> control_;
    std::optional<Client> client_;
    Idle idle_;
    bool started_ = false;  // the VF has been ready to receive once
    RxCounters rx_;
    std::uint64_t sessions_ = 0;
    std::uint64_t broken_sessions_ = 0;  // ended by a socket error or inside a message
    std::map<Malformed, std::uint64_t> malformed_;
};

}  // namespace vitrine::vf_sim
