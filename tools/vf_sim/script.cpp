#include "tools/vf_sim/script.hpp"

#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace vitrine::vf_sim {

Script::Script(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("script " + path + ": cannot be read");
    std::string line;
    for (unsigned number = 1; std::getline(file, line); ++number) {
        std::istringstream words(line.substr(0, line.find('#')));
        std::uint32_t milliseconds = 0;
        if ((words >> std::ws).eof()) continue;
        Step step;
        words >> milliseconds >> std::ws;
        step.at = std::chrono::milliseconds(milliseconds);
        if (!words || !std::getline(words, step.command) || (!steps_.empty() && step.at < steps_.back().at))
            throw std::invalid_argument("script " + path + ", line " + std::to_string(number) +
                                        ": not MILLISECONDS COMMAND, or earlier than the line before");
        step.command.erase(step.command.find_last_not_of(" \t\r") + 1);
        steps_.push_back(std::move(step));
    }
}

void Script::run(Time now, const std::function<std::string(const std::string&)>& command) {
    if (!begin_) begin_ = now;
    for (; next_ < steps_.size() && now >= *begin_ + steps_[next_].at; ++next_) {
        const std::string answer = command(steps_[next_].command);
        if (!answer.starts_with(R"({"error")")) continue;
        ++failed_;
        std::cerr << "script: " << steps_[next_].command << ": " << answer << '\n';
    }
}

std::optional<Time> Script::due() const {
    if (!begin_ || next_ == steps_.size()) return std::nullopt;
    return *begin_ + steps_[next_].at;
}

}  // namespace vitrine::vf_sim
