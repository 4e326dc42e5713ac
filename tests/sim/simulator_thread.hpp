#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "mem/socket.hpp"
#include "tests/support/directory.hpp"
#include "tools/vf_sim/simulator.hpp"

namespace vitrine::sim_test {

/// Repeats `condition` until it holds; false after `limit`, which only a broken program reaches.
template <class Condition>
bool eventually(Condition condition, std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
}

inline constexpr mem::EthernetAddress vf_address{0x02, 0x56, 0x46, 0x00, 0x00, 0x01};

/// The whole simulator in a thread, asked through its control socket as an operator would. With trapped doorbells it is
/// strict, and must not have seen a broken rule when it ends.
class SimulatorThread {
public:
    explicit SimulatorThread(const std::string& wire, bool mapped_doorbells = true, vf_sim::Policy policy = {},
                             std::size_t functions = 1) {
        if (!policy.mac) policy.mac = vf_address;
        policy.strict = !mapped_doorbells;
        std::vector<std::string> sockets;
        for (std::size_t function = 0; function < functions; ++function) sockets.push_back(socket_path(function));
        simulator_.emplace(vf_sim::Options{.socket_paths = sockets,
                                           .control_path = directory_ / "control.sock",
                                           .script_path = {},
                                           .wire = wire,
                                           .offer_doorbells = mapped_doorbells,
                                           .policy = policy});
        thread_ = std::thread([this] { simulator_->run(stop_); });
        control_ = mem::connect_unix(directory_ / "control.sock");
    }
    ~SimulatorThread() { end(); }

    std::string socket_path(std::size_t function = 0) const {
        return directory_ / ("vf" + std::to_string(function) + ".sock");
    }
    const test::Directory& directory() const { return directory_; }

    nlohmann::json command(const std::string& line) {
        const std::string request = line + "\n";
        mem::send_all(control_.get(), std::as_bytes(std::span(request)), {}, std::chrono::seconds(5));
        std::string reply;
        std::vector<mem::FileDescriptor> none;
        for (char letter = 0; letter != '\n'; reply += letter)
            REQUIRE(mem::receive_exact(control_.get(), mem::writable_bytes_of(letter), none, std::chrono::seconds(5)));
        return nlohmann::json::parse(reply);
    }
    nlohmann::json status() { return command("status"); }
    /// A test whose driver breaks rules on purpose.
    void allow_violations() { violations_allowed_ = true; }
    /// As a crash would, seen from the client.
    void end() {
        if (!thread_.joinable()) return;
        stop_ = true;
        thread_.join();
        check_violations(simulator_->status());
        simulator_.reset();
    }

private:
    void check_violations(const nlohmann::json& status) const {
        if (violations_allowed_) return;
        if (status.contains("violations")) CHECK(status["violations"] == nlohmann::json::object());
        for (const auto& function : status.value("vfs", nlohmann::json::array()))
            if (function.contains("violations")) CHECK(function["violations"] == nlohmann::json::object());
    }

    test::Directory directory_;
    bool violations_allowed_ = false;
    std::optional<vf_sim::Simulator> simulator_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
    mem::FileDescriptor control_;
};

inline std::uint64_t dropped(const nlohmann::json& status) {
    std::uint64_t sum = 0;
    for (const auto& [reason, count] : status["drops"].items()) sum += count.get<std::uint64_t>();
    return sum;
}

}  // namespace vitrine::sim_test
