#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "apps/vitrine/options.hpp"
#include "apps/vitrine/seccomp.hpp"

namespace vitrine::apps {

/// What the control thread may call, by what it may have to do again.
std::vector<AllowedCall> control_calls(const Options& options);

/// The walls around the process, which close in steps while it starts: a guest's first byte finds all of them up.
///
///   construction         the start's list of system calls; no thread but this one
///   close_files          no file but what losing the VF and a clean end need; before the poll thread
///   enter_poll_thread    by that thread, first of all
///   enter_control_thread when everything is up
class Sandbox {
public:
    explicit Sandbox(const Options& options);

    void close_files();
    void enter_poll_thread() const;
    void enter_control_thread();

    /// Whose process this is.
    unsigned user() const { return user_; }
    nlohmann::json status() const;

private:
    const Options& options_;
    const unsigned user_;
    int landlock_version_ = 0;
};

}  // namespace vitrine::apps
