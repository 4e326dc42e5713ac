// vitrinectl: asks a running vitrine over its control socket.

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "apps/vitrine/options.hpp"
#include "mem/socket.hpp"

namespace {

using nlohmann::json;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::vector<std::string> names_under(const std::string& root) {
    std::vector<std::string> names;
    std::error_code missing;
    for (const fs::directory_entry& entry : fs::directory_iterator(root, missing))
        if (fs::exists(entry.path() / "control.sock")) names.push_back(entry.path().filename());
    return names;
}

/// The VM that was named, or the only one there is.
std::string choose(const std::string& wanted, const std::string& root) {
    const std::vector<std::string> names = names_under(root);
    if (std::ranges::find(names, wanted) != names.end()) return wanted;
    if (wanted.empty() && names.size() == 1) return names.front();
    if (names.empty()) throw std::runtime_error("no vitrine runs under " + root + " (start one, or see --run-dir)");
    std::string text = wanted.empty() ? "say which one:" : "no vitrine of the name " + wanted + " runs, but these do:";
    for (const std::string& name : names) text += " " + name;
    throw std::runtime_error(text);
}

json ask(const std::string& path, const std::string& method) {
    const vitrine::mem::FileDescriptor socket = vitrine::mem::connect_unix(path);
    const std::string request = json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}}.dump() + "\n";
    vitrine::mem::send_all(socket.get(), std::as_bytes(std::span(request)), {}, 5s);
    std::string reply;
    while (reply.find('\n') == std::string::npos) {
        std::array<char, 4096> bytes;
        if (!vitrine::mem::wait_readable(socket.get(), 10s)) throw std::runtime_error(path + ": no answer within 10 s");
        const ssize_t got = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
        if (got <= 0) throw std::runtime_error(path + ": closed without an answer");
        reply.append(bytes.data(), static_cast<std::size_t>(got));
    }
    const json answer = json::parse(reply);
    if (answer.contains("error")) throw std::runtime_error(answer["error"]["message"].get<std::string>());
    return answer["result"];
}

/// Every leaf on a line of its own, under its path; counters that are 0 are left out.
void print_flat(const json& value, const std::string& path) {
    if (value.is_object()) {
        for (const auto& [key, child] : value.items()) {
            std::string below = path;
            if (!below.empty()) below += '.';
            print_flat(child, below.append(key));
        }
    } else if (value.is_array() && !value.empty() && value.front().is_object()) {
        for (std::size_t i = 0; i < value.size(); ++i) print_flat(value[i], path + "[" + std::to_string(i) + "]");
    } else if (value != json(0)) {
        std::printf("%-44s %s\n", path.c_str(),
                    value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("vitrinectl asks a running vitrine what it does.");
    app.require_subcommand(0, 1);
    std::string name, root = vitrine::apps::run_root();
    bool as_json = false;
    const auto verb = [&](const char* word, const char* help) {
        CLI::App* command = app.add_subcommand(word, help);
        command->add_option("name", name, "Name of the VM; may be left out when one runs");
        command->add_flag("--json", as_json, "Print JSON");
        command->add_option("--run-dir", root, "Where the run directories of all VMs are")->capture_default_str();
        return command;
    };
    CLI::App* status = verb("status", "VF, front-end, rings and counters");
    CLI::App* audit = verb("audit", "Proves that every packet page is in exactly one hand; exit code 1 when not");
    try {
        app.parse(argc, argv);
        if (app.get_subcommands().empty()) throw CLI::RequiredError("a verb: status or audit");
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::Error& error) {
        std::fprintf(stderr, "vitrinectl: %s (vitrinectl --help)\n", error.what());
        return 2;
    }
    try {
        name = choose(name, root);
        const json result = ask(root + "/" + name + "/control.sock", status->parsed() ? "status" : "audit");
        if (as_json)
            std::printf("%s\n", result.dump(2).c_str());
        else
            print_flat(result, "");
        return audit->parsed() && !result.at("conserved").get<bool>() ? 1 : 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vitrinectl: %s\n", error.what());
        return 1;
    }
}
