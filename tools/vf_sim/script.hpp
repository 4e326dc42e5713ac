#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// Commands with times: lines of `MILLISECONDS COMMAND`, in order, counted from the first call of run(). What follows a
/// `#` is a comment.
class Script {
public:
    Script() = default;
    /// Throws std::runtime_error for a file that cannot be read, std::invalid_argument naming a line without a time.
    explicit Script(const std::string& path);

    /// Gives what is due to `command`, which answers; an answer that is an error goes to stderr with its line.
    void run(Time now, const std::function<std::string(const std::string&)>& command);
    std::optional<Time> due() const;
    std::uint64_t failed() const { return failed_; }

private:
    struct Step {
        std::chrono::milliseconds at;
        std::string command;
    };
    std::vector<Step> steps_;
    std::size_t next_ = 0;
    std::optional<Time> begin_;
    std::uint64_t failed_ = 0;
};

}  // namespace vitrine::vf_sim
