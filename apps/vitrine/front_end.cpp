// The front-end's coming and going: one at a time, by the way that the options name.

#include <stdexcept>
#include <sys/socket.h>
#include <system_error>

#include <spdlog/spdlog.h>

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

}  // namespace

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
