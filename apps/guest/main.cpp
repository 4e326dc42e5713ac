#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>

#include "apps/guest/backend_link.hpp"
#include "apps/guest/options.hpp"
#include "apps/guest/pci_transport.hpp"
#include "apps/guest/perf.hpp"
#include "apps/guest/report.hpp"
#include "apps/guest/run.hpp"
#include "apps/guest/serve.hpp"

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void stop_on(int signal) {
    struct sigaction action{};
    action.sa_handler = [](int) { stop = true; };
    ::sigaction(signal, &action, nullptr);
}

using namespace vitrine::guest;

std::unique_ptr<Transport> open_device(const Options& options) {
    const std::uint64_t wanted = wanted_features(options);
    if (!options.pci_address.empty())
        return std::make_unique<PciTransport>(
            PciTransport::Place{options.pci_address, vitrine::mem::huge_page_mount("--pci")}, wanted);
    const std::chrono::seconds limit(options.wait_seconds);
    return std::make_unique<BackendLink>(options, reach_backend(options, limit), wanted, rings_of(options));
}

}  // namespace

int main(int argc, char** argv) {
    int exit_code = 0;
    const auto options = parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    stop_on(SIGINT);
    stop_on(SIGTERM);
    try {
        if (options->mode == Mode::perf) return perf(*options, stop);
        if (options->mode == Mode::serve) return serve(*options, stop, [] {});
        const auto device = open_device(*options);
        const Result result = run(*options, *device, stop);
        std::fputs((options->json ? to_json(result) : to_table(result)).c_str(), stdout);
        if (const std::string why = failure_of(result); !why.empty())
            std::fprintf(stderr, "vitrine-guest: %s: %s\n", (options->socket_path + options->pci_address).c_str(),
                         why.c_str());
        return result.good() ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vitrine-guest: %s\n", error.what());
        return 1;
    }
}
