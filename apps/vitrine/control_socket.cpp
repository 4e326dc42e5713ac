#include "apps/vitrine/control_socket.hpp"

#include <array>
#include <cerrno>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "apps/vitrine/accept.hpp"
#include "mem/socket.hpp"

namespace vitrine::apps {
namespace {

constexpr std::size_t most_clients = 8;
constexpr std::size_t longest_request = 4096;

nlohmann::json error_reply(const nlohmann::json& id, int code, const std::string& message) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}};
}

mem::FileDescriptor listen(const std::string& path) {
    try {
        return mem::listen_unix(path);
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::address_in_use) throw;
        throw std::runtime_error(path + ": a vitrine of this name runs already (choose another: --name)");
    }
}

}  // namespace

ControlSocket::ControlSocket(EventLoop& loop, const std::string& path, Handler handler)
    : loop_(loop), path_(path), handler_(std::move(handler)), listener_(listen(path)) {
    loop_.add(listener_.get(), [this] { accept(); });
}

ControlSocket::~ControlSocket() {
    while (!clients_.empty()) drop(clients_.begin());
    loop_.remove(listener_.get());
    ::unlink(path_.c_str());
}

void ControlSocket::accept() {
    mem::FileDescriptor socket = accept_or_rest(loop_, listener_.get(), "control socket", accept_failures_);
    if (!socket || clients_.size() == most_clients) return;
    const auto client = clients_.insert(clients_.end(), {std::move(socket), {}});
    loop_.add(client->socket.get(), [this, client] { serve(client); });
}

void ControlSocket::drop(Clients::iterator client) {
    loop_.remove(client->socket.get());
    clients_.erase(client);
}

void ControlSocket::serve(Clients::iterator client) {
    std::array<char, longest_request> bytes;
    const ssize_t got = ::recv(client->socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return drop(client);
    client->pending.append(bytes.data(), static_cast<std::size_t>(got));
    for (std::size_t end; (end = client->pending.find('\n')) != std::string::npos;) {
        const std::string reply = answer(client->pending.substr(0, end)) + "\n";
        client->pending.erase(0, end + 1);
        const ssize_t sent = ::send(client->socket.get(), reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent != static_cast<ssize_t>(reply.size())) return drop(client);
    }
    if (client->pending.size() >= longest_request) drop(client);
}

std::string ControlSocket::answer(const std::string& line) const {
    const nlohmann::json request = nlohmann::json::parse(line, nullptr, false);
    if (request.is_discarded()) return error_reply(nullptr, -32700, "not JSON").dump();
    if (!request.is_object() || !request.contains("method") || !request["method"].is_string())
        return error_reply(nullptr, -32600, "not a request: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":...}").dump();
    const nlohmann::json id = request.value("id", nlohmann::json());
    try {
        return nlohmann::json{{"jsonrpc", "2.0"}, {"id", id}, {"result", handler_(request["method"])}}.dump();
    } catch (const std::invalid_argument& error) {
        return error_reply(id, -32601, error.what()).dump();
    } catch (const std::exception& error) {
        return error_reply(id, -32000, error.what()).dump();
    }
}

}  // namespace vitrine::apps
