#include "tools/vf_sim/control.hpp"

#include <array>
#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include "mem/socket.hpp"

namespace vitrine::vf_sim {
namespace {

constexpr std::size_t most_peers = 8;
constexpr std::size_t most_line_bytes = 256;

}  // namespace

Control::Control(std::string path, Answer answer)
    : path_(std::move(path)), answer_(std::move(answer)), listener_(mem::listen_unix(path_)) {}

Control::~Control() {
    ::unlink(path_.c_str());
}

void Control::add_to(std::vector<pollfd>& entries) const {
    entries.push_back({listener_.get(), POLLIN, 0});
    for (const Peer& peer : peers_) entries.push_back({peer.socket.get(), POLLIN, 0});
}

void Control::serve() {
    if (mem::FileDescriptor socket = mem::accept_unix(listener_.get()); socket && peers_.size() < most_peers)
        peers_.push_back({std::move(socket), {}});
    std::erase_if(peers_, [this](Peer& peer) { return !serve(peer); });
}

bool Control::serve(Peer& peer) {
    std::array<char, most_line_bytes> buffer;
    const ssize_t got = ::recv(peer.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    peer.pending.append(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = peer.pending.find('\n'); end != std::string::npos; end = peer.pending.find('\n')) {
        const std::string reply = answer_(peer.pending.substr(0, end)) + "\n";
        peer.pending.erase(0, end + 1);
        const ssize_t sent = ::send(peer.socket.get(), reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent != static_cast<ssize_t>(reply.size())) return false;
    }
    return peer.pending.size() <= most_line_bytes;
}

}  // namespace vitrine::vf_sim
