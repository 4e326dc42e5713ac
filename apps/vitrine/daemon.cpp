#include "apps/vitrine/daemon.hpp"

#include <csignal>
#include <fmt/ranges.h>
#include <stdexcept>
#include <sys/signalfd.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

namespace vitrine::apps {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds tick = 1s;

/// SIGTERM and SIGINT as a descriptor. Before any thread starts, so that all of them have the signals blocked.
mem::FileDescriptor block_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) mem::throw_errno("block signals");
    mem::FileDescriptor file(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!file) mem::throw_errno("signalfd");
    return file;
}

/// What --vf names may still be in the hands of the process that this one replaces.
constexpr std::chrono::seconds old_process_limit = 5s;

[[noreturn]] void fail_at_start(const Options& options, const std::system_error& error) {
    throw std::runtime_error("--vf " + options.vf + ": " + error.what() + advice_for(options, error));
}

driver::AnyDevice first_device(const Options& options) {
    try {
        return open_vf(options, old_process_limit);
    } catch (const std::system_error& error) {
        fail_at_start(options, error);
    }
}

std::unique_ptr<Nic> first_nic(const Options& options, driver::AnyDevice device, NicMemory& memory,
                               const LearnedGroups& groups) {
    try {
        return std::make_unique<Nic>(options, std::move(device), memory, groups);
    } catch (const std::system_error& error) {
        fail_at_start(options, error);
    }
}

/// Where only one process of this name can be. The control socket in it says so: it comes before anything is touched
/// that another process may use.
std::string control_path(const Options& options) {
    return options.run_directory + "/control.sock";
}

virtio::DeviceConfig device_config(const Options& options, const Nic& nic) {
    return {.mac = nic.identity().mac,
            .mtu = options.mtu,
            .pairs = options.pairs,
            .link_up = true,  // a front-end reads it once, at its creation; later changes have no way to it
            .speed_mbps = 10'000,
            // With a tunnel a tag of the guest's counts as payload.
            .frame_overhead_bytes = options.tunnel ? 14u : 18u,
            .packed = options.packed};
}

}  // namespace

Daemon::Daemon(const Options& options, Sandbox& sandbox, Notifier& notifier)
    : options_(options),
      sandbox_(sandbox),
      notifier_(notifier),
      run_directory_(options_.run_directory),
      control_(loop_, control_path(options_), [this](const std::string& method) { return answer(method); }),
      signals_(block_signals()),
      first_device_(first_device(options_)),
      memory_(options_, first_device_->iova_ranges()),
      nic_(first_nic(options_, std::move(*first_device_), memory_, learned_groups_)),
      device_(device_config(options_, *nic_)),
      tunnel_(options_.tunnel ? std::make_unique<Tunnel>(*options_.tunnel) : nullptr),
      poller_(device_, pairs_, {options_.idle_spin, options_.idle_busy}, tunnel_.get()) {
    for (const mem::SharedMemory* memory : {&memory_.packets, &memory_.bounce, &memory_.rings})
        if (!memory->why_not_huge.empty() && options_.backing != mem::Backing::small_only)
            spdlog::warn("{} (small pages instead: more TLB misses)", memory->why_not_huge);
    if (memory_.lending) {
        memory_.region->offer(nic_->identity().mac, memory_.lending->modes());
        device_.set_lending(&*memory_.lending);
    }
    for (unsigned pair = 0; pair < options_.pairs; ++pair)
        pairs_.push_back(std::make_unique<Pair>(memory_.packet_pool, memory_.bounce_pool, device_, pair,
                                                options_.guest_dma, tunnel_.get()));
    loop_.add(signals_.get(), [this] { stop_ = true; });
    listen_for_front_end();
    sandbox_.close_files();
    poller_.start([this] { sandbox_.enter_poll_thread(); });
    open_front_end();
    follow_vf();
    apply_link();
    next_tick_ = Clock::now() + tick;
}

Daemon::~Daemon() {
    session_.reset();
    if (nic_) {
        const mem::Handover::Hold hold = poller_.hold();
        nic_->stop(pairs_, poller_);
    }
    if (memory_.region && stop_) memory_.region->withdraw();
    if (!options_.front_end.socket_path.empty()) ::unlink(options_.front_end.socket_path.c_str());
}

void Daemon::run() {
    spdlog::info("{}: VF {}, MAC {:02x}, ready", options_.name, options_.vf, fmt::join(nic_->identity().mac, ":"));
    notifier_.ready(summary());
    while (!stop_) {
        const bool more_to_map = regions_changed_ && map_next_region();
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick_ - Clock::now());
        loop_.run_once(more_to_map ? 0ms : std::max<std::chrono::milliseconds>(left, 0ms));
        if (Clock::now() < next_tick_) continue;
        next_tick_ = Clock::now() + tick;
        nic_ ? watch_vf() : retry_vf();
        check_health();
        begin_direct();
        if (session_ && device_.memory().lost()) end_robbed_session();
        if (!session_ && !options_.front_end.connect_path.empty()) try_connect();
        const Poller::Turns turns = poller_.turns();
        notifier_.alive(turns.busy + turns.idle);
        notifier_.status(summary());
    }
    notifier_.stopping();
    spdlog::info("{}: stopped", options_.name);
}

}  // namespace vitrine::apps
