#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tools/vf_sim/control.hpp"
#include "tools/vf_sim/function.hpp"
#include "tools/vf_sim/idle.hpp"
#include "tools/vf_sim/port_watchdog.hpp"
#include "tools/vf_sim/script.hpp"
#include "tools/vf_sim/switch.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::vf_sim {

struct Options {
    std::vector<std::string> socket_paths;  ///< one for each function
    std::string control_path;               ///< none: no control socket
    std::string script_path;                ///< none: no script
    std::string wire = "null";
    bool offer_doorbells = false;  ///< --doorbells=poll
    bool busy = false;             ///< --poll=busy
    Policy policy;                 ///< of each function; its address is the first one's, the others count on
    std::vector<EthernetAddress> addresses{};  ///< instead, one for each function
};

/// One port: its functions, each behind a vfio-user socket, the switch between them, and one wire. All in the thread
/// that calls run().
class Simulator {
public:
    /// Listens. Throws std::system_error, std::runtime_error or std::invalid_argument naming what is wrong.
    explicit Simulator(const Options& options);

    /// Until `stop` is set. Looks at it at least every 50 ms.
    void run(const std::atomic<bool>& stop);

    /// The port's, and function 0's; with more functions than one, each function's under "vfs".
    nlohmann::json status() const;
    /// A line of commands.hpp. Answers with the status or {"error": ...}.
    std::string command(const std::string& line);

private:
    bool move_frames(Time now);
    bool receive_from_wire(Time now);
    bool offer(std::span<const std::byte> frame);
    void forward(std::size_t sender, std::span<const std::byte> frame);
    bool ready_to_receive() const;
    bool serve_sockets(std::chrono::nanoseconds wait);
    std::chrono::nanoseconds sleep_time(Time now, bool worked);
    bool doorbells_need_polling() const;

    Options options_;
    std::vector<std::unique_ptr<Function>> functions_;
    Switch switch_;
    std::unique_ptr<Wire> wire_;
    std::optional<Control> control_;
    Script script_;
    Idle idle_;
    PortWatchdog watchdog_;
    bool started_ = false;             // the functions have been ready to receive once
    std::vector<RxOutcome> outcomes_;  // of the frame at the wire's head, by function
};

}  // namespace vitrine::vf_sim
