// vitrine: one VF for one virtual machine.

#include <cstdint>
#include <cstdio>
#include <exception>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "apps/vitrine/clean.hpp"
#include "apps/vitrine/daemon.hpp"
#include "apps/vitrine/needs.hpp"
#include "apps/vitrine/notify.hpp"
#include "apps/vitrine/options.hpp"
#include "apps/vitrine/process.hpp"
#include "apps/vitrine/sandbox.hpp"
#include "mem/shared_memory.hpp"

namespace {

int print_needs(const vitrine::apps::Options& options) {
    const auto guest_bytes = std::uint64_t{options.guest_memory_mib} << 20;
    const auto needs = vitrine::apps::needs_of(options, vitrine::mem::huge_page_bytes(), guest_bytes);
    std::puts((options.needs_as_json ? json_of(needs) : text_of(needs)).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    int exit_code = 0;
    const auto options = vitrine::apps::parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    try {
        spdlog::set_default_logger(spdlog::stderr_color_st("vitrine"));
        spdlog::set_pattern("vitrine: %^%l%$: %v");
        spdlog::set_level(spdlog::level::from_str(options->log_level));
        if (options->only_needs) return print_needs(*options);
        if (options->only_clean) return vitrine::apps::clean(*options), 0;
        if (!options->allow_root) vitrine::apps::refuse_root();
        const auto environment = vitrine::apps::NotifyEnvironment::read();
        vitrine::apps::give_up_belongings(options->front_end.descriptor);
        vitrine::apps::Notifier notifier(environment);
        vitrine::apps::Sandbox sandbox(*options);
        vitrine::apps::Daemon daemon(*options, sandbox, notifier);
        sandbox.enter_control_thread();
        daemon.run();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vitrine: %s\n", error.what());
        return 1;
    }
}
