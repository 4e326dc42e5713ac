// The front-end's coming and going: one at a time, by the way that the options name.

#include <stdexcept>
#include <sys/socket.h>
#include <system_error>

#include <spdlog/spdlog.h>

#include "apps/vitrine/accept.hpp"
#include "apps/vitrine/daemon.hpp"
#include "mem/socket.hpp"

namespace vitrine::apps {
namespace {

bool is_listening(int socket) {
    int listening = 0;
    socklen_t size = sizeof(listening);
    if (::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0)
        mem::throw_errno("--fd " + std::to_string(socket) + ": not a socket");
    return listening != 0;
}

constexpr std::chrono::seconds refusal_line_pause{10};

std::string refusal_of_same_user() {
    return "refused: it has vitrine's own user (run the VMM as another one, or --allow-same-uid)";
}

}  // namespace

/// What needs a file is done here, before the sandbox takes files away.
void Daemon::listen_for_front_end() {
    if (options_.front_end.socket_path.empty()) return;
    try {
        listener_ = mem::listen_unix(options_.front_end.socket_path);
    } catch (const std::system_error& error) {
        throw std::runtime_error("--socket-path: " + std::string(error.what()));
    }
}

void Daemon::open_front_end() {
    const FrontEnd& wanted = options_.front_end;
    if (!wanted.connect_path.empty()) return try_connect();
    if (wanted.descriptor >= 0) {
        mem::FileDescriptor inherited(wanted.descriptor);
        if (!is_listening(inherited.get())) {
            if (!may_serve(inherited.get())) throw std::runtime_error("--fd: " + refusal_of_same_user());
            return begin_session(std::move(inherited));
        }
        listener_ = std::move(inherited);
    }
    wait_for_front_end();
}

void Daemon::wait_for_front_end() {
    loop_.add(listener_.get(), [this] { accept_front_end(); });
}

void Daemon::accept_front_end() {
    mem::FileDescriptor socket = accept_or_rest(loop_, listener_.get(), "front-end", front_end_accept_failures_);
    if (!socket || !may_serve(socket.get())) return;
    loop_.remove(listener_.get());  // one at a time: the next one waits in the backlog
    begin_session(std::move(socket));
}

void Daemon::try_connect() {
    try {
        mem::FileDescriptor socket = mem::connect_unix(options_.front_end.connect_path);
        if (may_serve(socket.get())) begin_session(std::move(socket));
    } catch (const std::system_error& error) {
        spdlog::debug("--connect: {}", error.what());
    }
}

/// Not a front-end of our own user: what we show it read-only it could open once more, and write. Root can in any case.
bool Daemon::may_serve(int socket) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) mem::throw_errno("user of the front-end");
    if (peer.uid != sandbox_.user() || peer.uid == 0 || options_.allow_same_uid) {
        spdlog::info("front-end: connected, process {} of user {}", peer.pid, peer.uid);
        return true;
    }
    // Some try again ten times a second.
    if (++front_ends_refused_ == 1 || Clock::now() >= next_refusal_line_) {
        next_refusal_line_ = Clock::now() + refusal_line_pause;
        spdlog::warn("front-end: process {}: {}", peer.pid, refusal_of_same_user());
    }
    return false;
}

void Daemon::begin_session(mem::FileDescriptor socket) {
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
                    if (ring % 2 == 0) return end_direct();
                    const unsigned pair = ring / 2;
                    if (!nic_ || !nic_->running()) return;
                    try {
                        nic_->drain(pair, pairs_[pair]->transmit);
                    } catch (const std::system_error& error) {
                        spdlog::warn("VF: {}; resetting it", error.what());
                        pairs_[pair]->transmit.detach();  // or its frames would count as the next ring's
                        needs_reset_ = true;
                    }
                },
            .region_added =
                [this](const virtio::GuestRegion&) {
                    const mem::Handover::Hold hold = poller_.hold();
                    end_direct();  // until the NIC can write to all of it
                    regions_changed_ = true;
                },
            .region_removed =
                [this](const virtio::GuestRegion& region) {
                    if (nic_) nic_->unmap_guest(region);
                }};
}

}  // namespace vitrine::apps
