#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "apps/vitrine/control_socket.hpp"
#include "apps/vitrine/event_loop.hpp"
#include "apps/vitrine/nic.hpp"
#include "apps/vitrine/notify.hpp"
#include "apps/vitrine/options.hpp"
#include "apps/vitrine/poller.hpp"
#include "apps/vitrine/retry_pause.hpp"
#include "apps/vitrine/run_directory.hpp"
#include "apps/vitrine/sandbox.hpp"
#include "virtio/device.hpp"
#include "virtio/session.hpp"

namespace vitrine::apps {

/// The control thread: keeps the VF alive, serves one front-end at a time, answers vitrinectl.
class Daemon {
public:
    /// Brings up the VF and the sockets. Throws std::system_error naming what failed and what to do.
    Daemon(const Options& options, Sandbox& sandbox, Notifier& notifier);
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    /// Until SIGTERM or SIGINT, or until the end of an inherited connection.
    void run();

private:
    using Clock = std::chrono::steady_clock;

    /// The VF's ups and downs.
    struct VfEvents {
        std::uint64_t resets = 0;  ///< asked for by the PF, or after a silent mailbox
        std::uint64_t losses = 0;  ///< the device went away, or was closed for one of the next two
        std::uint64_t bus_errors = 0;
        std::uint64_t wanted_back = 0;  ///< the host asked for it: it was released
        std::uint64_t link_downs = 0;
        std::uint64_t mailbox_silent = 0;  ///< the PF, or the device, did not answer in time
        std::uint64_t failures = 0;        ///< other things that did not go as they should, e.g. a refusal
        std::array<std::uint64_t, driver::trouble_names.size()> troubles{};  ///< looks that saw each
        std::string last_loss;                                               ///< why
    };

    /// Of rings that the NIC could write to itself. The last three: looks, once a second.
    struct DirectEvents {
        std::uint64_t begun = 0;
        std::uint64_t ended = 0;
        std::uint64_t copied_no_guest_dma = 0;  ///< the operator does not allow it
        std::uint64_t copied_not_mapped = 0;    ///< not all guest memory is mapped for the NIC (yet)
        std::uint64_t copied_fewer_rings = 0;   ///< the guest runs fewer receive rings than the NIC has queues
    };

    void watch_vf();
    void check_health();
    void distrust_vf(const std::system_error& error);
    void reset_vf();
    void apply_link();
    void attend_vf();
    void lose_vf(const std::string& why);
    void follow_vf();
    void retry_vf();
    void learn_groups();

    void begin_direct();
    void end_direct() noexcept;
    void give_up_direct(const std::system_error& error) noexcept;
    bool stop_nic() noexcept;

    void listen_for_front_end();
    void open_front_end();
    void wait_for_front_end();
    void accept_front_end();
    void try_connect();
    bool may_serve(int socket);
    void begin_session(mem::FileDescriptor socket);
    void serve_session();
    void end_robbed_session();
    void end_session();
    virtio::Hooks session_hooks();

    bool map_next_region();
    void forget_mappings() noexcept;

    nlohmann::json answer(const std::string& method);
    nlohmann::json status();
    std::string summary();
    nlohmann::json vf_status();
    nlohmann::json tunnel_status() const;
    nlohmann::json audit();

    const Options options_;
    Sandbox& sandbox_;
    Notifier& notifier_;
    const RunDirectory run_directory_;
    EventLoop loop_;
    ControlSocket control_;
    mem::FileDescriptor signals_;
    std::optional<driver::AnyDevice> first_device_;  ///< the NIC's memory must suit its IOMMU; then nic_ has it
    NicMemory memory_;
    LearnedGroups learned_groups_;
    std::unique_ptr<Nic> nic_;
    virtio::Device device_;
    std::unique_ptr<Tunnel> tunnel_;  ///< null without --tunnel
    std::vector<std::unique_ptr<Pair>> pairs_;
    Poller poller_;
    mem::FileDescriptor listener_;
    std::unique_ptr<virtio::Session> session_;
    std::uint64_t front_ends_refused_ = 0;
    std::uint64_t front_end_accept_failures_ = 0;
    Clock::time_point next_refusal_line_{};
    VfEvents vf_events_;
    DirectEvents direct_events_;
    Clock::time_point next_tick_{};
    RetryPause retry_;
    Clock::time_point next_group_refresh_{};
    bool groups_changed_ = false;
    bool needs_reset_ = false;
    bool regions_changed_ = false;
    bool stop_ = false;
};

}  // namespace vitrine::apps
