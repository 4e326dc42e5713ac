#include "apps/vitrine/control_socket.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "mem/socket.hpp"
#include "tests/support/directory.hpp"

using namespace vitrine;
using namespace std::chrono_literals;

namespace {

struct ControlBench {
    test::Directory directory;
    apps::EventLoop loop;
    std::optional<apps::ControlSocket> control;

    ControlBench() {
        control.emplace(loop, path(), [](const std::string& method) -> nlohmann::json {
            if (method == "status") return {{"well", true}};
            if (method == "fail") throw std::runtime_error("it did not work");
            throw std::invalid_argument("no such method");
        });
    }
    std::string path() const { return directory / "control.sock"; }

    /// What comes back for `text`; empty when the connection was cut.
    std::string exchange(const mem::FileDescriptor& client, const std::string& text) {
        mem::send_all(client.get(), std::as_bytes(std::span(text)), {}, 5s);
        for (int turn = 0; turn < 10 && !mem::wait_readable(client.get(), 0ms); ++turn) loop.run_once(10ms);
        std::array<char, 8192> reply;
        const ssize_t got = ::recv(client.get(), reply.data(), reply.size(), MSG_DONTWAIT);
        return got > 0 ? std::string(reply.data(), static_cast<std::size_t>(got)) : std::string();
    }
};

}  // namespace

TEST_CASE("JSON-RPC 2.0: a request is answered with its id, an unknown method with -32601, nonsense with -32700") {
    ControlBench bench;
    const mem::FileDescriptor client = mem::connect_unix(bench.path());
    const auto answer = [&](const std::string& line) { return nlohmann::json::parse(bench.exchange(client, line)); };
    const auto good = answer("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"status\"}\n");
    CHECK(good["id"] == 7);
    CHECK(good["result"]["well"] == true);
    CHECK(answer("{\"id\":1,\"method\":\"dance\"}\n")["error"]["code"] == -32601);
    CHECK(answer("{\"id\":1,\"method\":\"fail\"}\n")["error"]["message"] == "it did not work");
    CHECK(answer("{\"id\":1,\"method\":5}\n")["error"]["code"] == -32600);
    CHECK(answer("[[[[\n")["error"]["code"] == -32700);
    CHECK(answer("\xff\xfe\n")["error"]["code"] == -32700);
}

TEST_CASE("a request in pieces is put together, two in one piece are both answered") {
    ControlBench bench;
    const mem::FileDescriptor client = mem::connect_unix(bench.path());
    CHECK(bench.exchange(client, "{\"id\":1,\"meth").empty());
    CHECK(bench.exchange(client, "od\":\"status\"}\n").find("\"well\":true") != std::string::npos);
    const std::string both = bench.exchange(client, "{\"method\":\"status\"}\n{\"method\":\"status\"}\n");
    CHECK(std::ranges::count(both, '\n') == 2);
}

TEST_CASE("a client that floods without a line end is cut off, and the next one is served") {
    ControlBench bench;
    const mem::FileDescriptor flood = mem::connect_unix(bench.path());
    bench.exchange(flood, std::string(5000, 'x'));
    for (int turn = 0; turn < 5; ++turn) bench.loop.run_once(1ms);
    std::array<char, 1> byte;
    CHECK(::recv(flood.get(), byte.data(), 1, MSG_DONTWAIT) <= 0);
    const mem::FileDescriptor client = mem::connect_unix(bench.path());
    CHECK(bench.exchange(client, "{\"method\":\"status\"}\n").find("well") != std::string::npos);
}

TEST_CASE("more clients than places: the surplus is closed, those before are served") {
    ControlBench bench;
    std::vector<mem::FileDescriptor> clients;
    for (int i = 0; i < 12; ++i) {
        clients.push_back(mem::connect_unix(bench.path()));
        bench.loop.run_once(10ms);
    }
    CHECK(bench.exchange(clients.front(), "{\"method\":\"status\"}\n").find("well") != std::string::npos);
    CHECK(mem::wait_readable(clients.back().get(), 0ms));
}
