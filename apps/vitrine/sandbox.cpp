#include "apps/vitrine/sandbox.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <unistd.h>
#include <vector>

#include <nlohmann/json.hpp>

#include "apps/vitrine/landlock.hpp"
#include "apps/vitrine/seccomp_lists.hpp"

namespace vitrine::apps {

std::vector<AllowedCall> control_calls(const Options& options) {
    std::vector<AllowedCall> calls(control_thread_calls.begin(), control_thread_calls.end());
    if (options.is_vfio_user() || !options.front_end.connect_path.empty())
        std::ranges::copy(calling_calls, std::back_inserter(calls));
    return calls;
}

Sandbox::Sandbox(const Options& options) : options_(options), user_(::geteuid()) {
    std::vector<AllowedCall> calls = control_calls(options_);
    std::ranges::copy(starting_calls, std::back_inserter(calls));
    allow_only(options_.seccomp, calls, "start");
}

void Sandbox::close_files() {
    std::vector<AllowedPath> paths{
        // A VF that was lost is opened again.
        {"/dev/vfio", FileRight::use_device},
        {"/dev/iommu", FileRight::use_device},
        {"/sys/bus/pci", FileRight::read},
        {"/sys/devices", FileRight::read},
        {"/sys/class/net", FileRight::read},
        {"/sys/kernel/iommu_groups", FileRight::read},
        {"/etc/machine-id", FileRight::read},
        // The end removes the sockets and the packet pages, and the run directory if it was made here.
        {std::filesystem::path(options_.run_directory).parent_path(), FileRight::remove},
    };
    for (const std::string& file : {options_.front_end.socket_path, options_.pages_path})
        if (!file.empty()) paths.push_back({std::filesystem::absolute(file).parent_path(), FileRight::remove});
    landlock_version_ = allow_only_files(paths);
}

void Sandbox::enter_poll_thread() const {
    allow_only(options_.seccomp, poll_thread_calls, "poll");
}

void Sandbox::enter_control_thread() {
    allow_only(options_.seccomp, control_calls(options_), "control");
}

nlohmann::json Sandbox::status() const {
    return {{"user", user_},
            {"seccomp", name_of(options_.seccomp)},
            {"calls", {{"control", control_calls(options_).size()}, {"poll", poll_thread_calls.size()}}},
            {"landlock", landlock_version_}};
}

}  // namespace vitrine::apps
