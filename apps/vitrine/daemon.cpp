#include "apps/vitrine/daemon.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fmt/ranges.h>
#include <stdexcept>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "mem/socket.hpp"

namespace vitrine::apps {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds tick = 1s;
constexpr std::chrono::seconds first_retry_pause = 1s;
constexpr std::chrono::seconds longest_retry_pause = 30s;
constexpr std::chrono::seconds group_refresh_pause = 3s;
constexpr unsigned most_groups_a_tick = 64;

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

std::unique_ptr<Nic> first_nic(const Options& options, NicMemory& memory, const LearnedGroups& groups) {
    try {
        return std::make_unique<Nic>(options, memory, groups);
    } catch (const std::system_error& error) {
        const bool our_options = error.code() == std::errc::invalid_argument;
        throw std::runtime_error(
            "--vf " + options.vf + ": " + error.what() +
            (our_options ? "" : " (does the VF's server run, does its PF answer, or has another process the VF?)"));
    }
}

/// Where only one process of this name can be. The control socket in it says so: it comes before anything is touched
/// that another process may use.
std::string control_path(const Options& options) {
    return options.run_directory + "/control.sock";
}

bool is_listening(int socket) {
    int listening = 0;
    socklen_t size = sizeof(listening);
    if (::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0)
        mem::throw_errno("--fd " + std::to_string(socket) + ": not a socket");
    return listening != 0;
}

virtio::DeviceConfig device_config(const Options& options, const Nic& nic) {
    return {.mac = nic.identity().mac,
            .mtu = options.mtu,
            .pairs = options.pairs,
            .link_up = true,  // a front-end reads it once, at its creation; later changes have no way to it
            .speed_mbps = 10'000};
}

}  // namespace

Daemon::Daemon(const Options& options)
    : options_(options),
      run_directory_(options_.run_directory),
      control_(loop_, control_path(options_), [this](const std::string& method) { return answer(method); }),
      signals_(block_signals()),
      memory_(options_),
      nic_(first_nic(options_, memory_, learned_groups_)),
      device_(device_config(options_, *nic_)),
      poller_(device_, pairs_, {options_.idle_spin, options_.idle_busy}) {
    for (const mem::SharedMemory* memory : {&memory_.packets, &memory_.bounce, &memory_.rings})
        if (!memory->why_not_huge.empty() && options_.backing != mem::Backing::small_only)
            spdlog::warn("{} (small pages instead: more TLB misses)", memory->why_not_huge);
    for (unsigned pair = 0; pair < options_.pairs; ++pair)
        pairs_.push_back(
            std::make_unique<Pair>(memory_.packet_pool, memory_.bounce_pool, device_, pair, options_.guest_dma));
    loop_.add(signals_.get(), [this] { stop_ = true; });
    poller_.start();
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
    if (!options_.front_end.socket_path.empty()) ::unlink(options_.front_end.socket_path.c_str());
}

void Daemon::run() {
    spdlog::info("{}: VF {}, MAC {:02x}, ready", options_.name, options_.vf, fmt::join(nic_->identity().mac, ":"));
    while (!stop_) {
        const bool more_to_map = regions_changed_ && map_next_region();
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick_ - Clock::now());
        loop_.run_once(more_to_map ? 0ms : std::max<std::chrono::milliseconds>(left, 0ms));
        if (Clock::now() < next_tick_) continue;
        next_tick_ = Clock::now() + tick;
        nic_ ? watch_vf() : retry_vf();
        check_health();
        if (session_ && device_.memory().lost()) end_robbed_session();
        if (!session_ && !options_.front_end.connect_path.empty()) try_connect();
    }
    spdlog::info("{}: stopped", options_.name);
}

// The VF.

void Daemon::follow_vf() {
    loop_.add(nic_->descriptor(), [this] { lose_vf("its server closed the connection"); });
    loop_.add(nic_->mailbox_descriptor(), [this] { watch_vf(); });
}

/// Once a second, and when the PF has something to say.
void Daemon::watch_vf() {
    try {
        nic_->acknowledge_mailbox();
        if (needs_reset_) {
            if (Clock::now() >= next_retry_) reset_vf();
            return;
        }
        switch (nic_->watch()) {
            case driver::Watch::steady:
                break;
            case driver::Watch::link_changed:
                return apply_link();
            case driver::Watch::reset_needed:
                return reset_vf();
            case driver::Watch::gone:
                return lose_vf("its registers read all ones");
        }
        learn_groups();
    } catch (const std::system_error& error) {
        distrust_vf(error);
    }
}

/// Once a second: whether the NIC does what its counters and descriptors say.
void Daemon::check_health() {
    if (!nic_ || !nic_->running() || needs_reset_) return;
    driver::RingProgress progress;
    {
        const mem::Handover::Hold hold = poller_.hold();
        progress = nic_->progress();
    }
    try {
        const driver::Troubles troubles = nic_->look(progress);
        for (std::size_t i = 0; i < troubles.size(); ++i) {
            if (!troubles[i]) continue;
            ++vf_events_.troubles[i];
            const bool reset = driver::troubles_to_reset[i];
            spdlog::warn("VF: {}{}", driver::trouble_names[i], reset ? "; resetting it" : "");
        }
        if ((troubles & driver::troubles_to_reset).any()) reset_vf();
    } catch (const std::system_error& error) {
        distrust_vf(error);
    }
}

void Daemon::learn_groups() {
    if (options_.multicast != "auto") return;
    GroupAddress group;
    for (const auto& pair : pairs_)
        for (unsigned heard = 0; heard < most_groups_a_tick && pair->transmit.pop_joined_group(group); ++heard)
            groups_changed_ |= learned_groups_.hear(group);
    // One message to the PF, and not each second: a guest that reports new groups all the time costs no more than that.
    if (!groups_changed_ || Clock::now() < next_group_refresh_) return;
    groups_changed_ = false;
    next_group_refresh_ = Clock::now() + group_refresh_pause;
    nic_->refresh_groups();
}

/// It did not answer as it should: the next tick resets it, unless its connection turns out to be lost.
void Daemon::distrust_vf(const std::system_error& error) noexcept {
    put_off_retry();
    ++(error.code() == std::errc::timed_out ? vf_events_.mailbox_silent : vf_events_.failures);
    spdlog::warn("VF: {}; reset in {} s", error.what(), retry_pause_.count());
    needs_reset_ = true;
}

/// A PF that stays silent costs a second each time: ask less and less often.
void Daemon::put_off_retry() noexcept {
    retry_pause_ = std::min(retry_pause_ * 2, longest_retry_pause);
    next_retry_ = Clock::now() + retry_pause_;
}

/// The PF asked for it, or the conversation with it broke: everything is asked anew.
void Daemon::reset_vf() {
    needs_reset_ = true;
    {
        const mem::Handover::Hold hold = poller_.hold();
        if (nic_->running()) nic_->stop(pairs_, poller_);
    }
    nic_->reset();
    needs_reset_ = false;
    retry_pause_ = first_retry_pause;
    ++vf_events_.resets;
    spdlog::info("VF: reset");
    if (nic_->identity().mac != device_.config().mac)
        spdlog::warn("VF: the PF gives another MAC address now; the guest keeps the first one");
    apply_link();
}

void Daemon::apply_link() {
    const bool up = nic_->link().up;
    if (up == nic_->running()) return;
    spdlog::info("VF: link {}", up ? std::to_string(nic_->link().speed_mbps) + " Mbit/s" : "down");
    if (!up) ++vf_events_.link_downs;
    const mem::Handover::Hold hold = poller_.hold();
    try {
        if (up)
            nic_->start(pairs_, poller_);
        else
            needs_reset_ = !nic_->stop(pairs_, poller_);
    } catch (const std::system_error& error) {
        spdlog::warn("VF: {}; resetting it", error.what());
        nic_->stop(pairs_, poller_);
        needs_reset_ = true;
    }
}

void Daemon::lose_vf(const std::string& why) {
    spdlog::error("VF {}: lost: {}; link down, trying again", options_.vf, why);
    ++vf_events_.losses;
    loop_.remove(nic_->descriptor());
    loop_.remove(nic_->mailbox_descriptor());
    {
        const mem::Handover::Hold hold = poller_.hold();
        nic_->stop(pairs_, poller_);
        forget_mappings();
    }
    nic_.reset();
    needs_reset_ = false;
    retry_pause_ = first_retry_pause;
    next_retry_ = Clock::now() + retry_pause_;
}

void Daemon::retry_vf() {
    if (Clock::now() < next_retry_) return;
    try {
        nic_ = std::make_unique<Nic>(options_, memory_, learned_groups_);
    } catch (const std::system_error& error) {
        put_off_retry();
        spdlog::warn("VF {}: {}; next try in {} s", options_.vf, error.what(), retry_pause_.count());
        return;
    }
    spdlog::info("VF {}: back", options_.vf);
    retry_pause_ = first_retry_pause;
    follow_vf();
    regions_changed_ = true;
    apply_link();
}

// Guest memory for the NIC, one region a turn: the front-end's messages come in between.

bool Daemon::map_next_region() {
    regions_changed_ = false;
    if (!options_.guest_dma || !nic_) return false;
    for (const virtio::GuestRegion& region : device_.memory().regions()) {
        if (region.iova.raw != 0) continue;
        try {
            const mem::Iova iova = nic_->map_guest(region);
            const mem::Handover::Hold hold = poller_.hold();
            device_.memory().set_iova(region.guest, iova);
        } catch (const std::system_error& error) {
            spdlog::warn("guest memory of {} bytes: {}; its frames are copied", region.size_bytes, error.what());
            continue;
        }
        regions_changed_ = true;
        return true;
    }
    return false;
}

/// Those of a device that is gone went with it.
void Daemon::forget_mappings() noexcept {
    for (const virtio::GuestRegion& region : device_.memory().regions()) {
        if (region.iova.raw == 0) continue;
        memory_.iova_space.give(region.iova);
        device_.memory().set_iova(region.guest, {});
    }
}

// The front-end.

void Daemon::open_front_end() {
    const FrontEnd& wanted = options_.front_end;
    if (wanted.descriptor >= 0) {
        mem::FileDescriptor inherited(wanted.descriptor);
        if (is_listening(inherited.get()))
            listener_ = std::move(inherited);
        else
            return begin_session(std::move(inherited));
    } else if (!wanted.connect_path.empty()) {
        return try_connect();
    } else {
        try {
            listener_ = mem::listen_unix(wanted.socket_path);
        } catch (const std::system_error& error) {
            throw std::runtime_error("--socket-path: " + std::string(error.what()));
        }
    }
    wait_for_front_end();
}

void Daemon::wait_for_front_end() {
    loop_.add(listener_.get(), [this] { accept_front_end(); });
}

void Daemon::accept_front_end() {
    mem::FileDescriptor socket;
    try {
        socket = mem::accept_unix(listener_.get());
    } catch (const std::system_error& error) {
        spdlog::warn("front-end: {}", error.what());  // out of descriptors: it waits in the backlog
    }
    if (!socket) return;
    loop_.remove(listener_.get());  // one at a time: the next one waits in the backlog
    begin_session(std::move(socket));
}

void Daemon::try_connect() {
    try {
        begin_session(mem::connect_unix(options_.front_end.connect_path));
    } catch (const std::system_error& error) {
        spdlog::debug("--connect: {}", error.what());
    }
}

void Daemon::begin_session(mem::FileDescriptor socket) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        spdlog::info("front-end: connected, process {} of user {}", peer.pid, peer.uid);
    session_ = std::make_unique<virtio::Session>(std::move(socket), device_, session_hooks());
    loop_.add(session_->descriptor(), [this] { serve_session(); });
}

void Daemon::serve_session() {
    if (session_->handle_message()) return;
    if (session_->last_refusal().empty())
        spdlog::info("front-end: gone");
    else
        spdlog::warn("front-end: gone; last refusal: {}", session_->last_refusal());
    end_session();
}

/// Nothing that is found in its rings now means anything.
void Daemon::end_robbed_session() {
    spdlog::error("front-end: it took guest memory away that is in use (truncated, or a hole without a page); ended");
    ++device_.session_counters().memory_lost;
    end_session();
}

void Daemon::end_session() {
    loop_.remove(session_->descriptor());
    session_.reset();
    if (listener_)
        wait_for_front_end();
    else if (options_.front_end.connect_path.empty())
        stop_ = true;  // an inherited connection comes but once
}

virtio::Hooks Daemon::session_hooks() {
    return {.hold = [this] { return poller_.hold(); },
            .drain =
                [this](unsigned ring) {
                    const unsigned pair = ring / 2;
                    if (ring % 2 == 0 || !nic_ || !nic_->running()) return;
                    try {
                        nic_->drain(pair, pairs_[pair]->transmit);
                    } catch (const std::system_error& error) {
                        spdlog::warn("VF: {}; resetting it", error.what());
                        pairs_[pair]->transmit.detach();  // or its frames would count as the next ring's
                        needs_reset_ = true;
                    }
                },
            .region_added = [this](const virtio::GuestRegion&) { regions_changed_ = true; },
            .region_removed =
                [this](const virtio::GuestRegion& region) {
                    if (nic_ && region.iova.raw != 0) nic_->unmap_guest(region);
                }};
}

}  // namespace vitrine::apps
