// vitrine: one VF for one virtual machine.

#include <cstdio>
#include <exception>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "apps/vitrine/daemon.hpp"
#include "apps/vitrine/options.hpp"
#include "apps/vitrine/process.hpp"
#include "apps/vitrine/sandbox.hpp"

int main(int argc, char** argv) {
    int exit_code = 0;
    const auto options = vitrine::apps::parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    try {
        spdlog::set_default_logger(spdlog::stderr_color_st("vitrine"));
        spdlog::set_pattern("vitrine: %^%l%$: %v");
        spdlog::set_level(spdlog::level::from_str(options->log_level));
        if (!options->allow_root) vitrine::apps::refuse_root();
        vitrine::apps::give_up_belongings(options->front_end.descriptor);
        vitrine::apps::Sandbox sandbox(*options);
        vitrine::apps::Daemon daemon(*options, sandbox);
        sandbox.enter_control_thread();
        daemon.run();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vitrine: %s\n", error.what());
        return 1;
    }
}
