#include "tools/vf_sim/commands.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "tools/vf_sim/text.hpp"
#include "tools/vf_sim/vf.hpp"

namespace vitrine::vf_sim {
namespace {

/// The words of a line, taken from the left.
class Words {
public:
    explicit Words(const std::string& line) {
        std::istringstream stream(line);
        for (std::string word; stream >> word;) words_.push_back(word);
    }
    bool empty() const { return next_ == words_.size(); }
    std::string take() { return empty() ? std::string() : words_[next_++]; }
    /// Takes the next word if it is this one.
    bool accept(std::string_view word) {
        const bool same = !empty() && words_[next_] == word;
        next_ += same;
        return same;
    }
    unsigned number(unsigned least, unsigned most) {
        const std::string word = take();
        const auto value = parse_number(word, least, most);
        if (!value)
            throw std::invalid_argument("'" + word + "' is not a number from " + std::to_string(least) + " to " +
                                        std::to_string(most));
        return *value;
    }
    /// Which of two words it is.
    bool choice(std::string_view yes, std::string_view no) {
        if (accept(yes)) return true;
        if (accept(no)) return false;
        throw std::invalid_argument("'" + take() + "' is neither " + std::string(yes) + " nor " + std::string(no));
    }

private:
    std::vector<std::string> words_;
    std::size_t next_ = 0;
};

constexpr unsigned usual_reset_ms = 100, longest_reset_ms = 60'000;

struct Command {
    std::string_view name, arguments, what;
    bool port;  ///< for every function at once
    /// Takes its arguments before it does anything.
    void (*run)(Vf& vf, Words& words);
};

const std::array commands{
    Command{"link", "up|down", "of the port", true,
            [](Vf& vf, Words& words) { vf.set_link(words.choice("up", "down")); }},
    Command{"pf-reset", "[MILLISECONDS]", "the PF's driver starts anew, and is away for so long (100)", true,
            [](Vf& vf, Words& words) {
                vf.reset_pf(
                    std::chrono::milliseconds(words.empty() ? usual_reset_ms : words.number(0, longest_reset_ms)));
            }},
};

const Command& find(const std::string& name) {
    const auto* found = std::ranges::find(commands, name, &Command::name);
    if (found != commands.end()) return *found;
    std::string known = "status";
    for (const Command& command : commands) known += ", " + std::string(command.name);
    throw std::invalid_argument("unknown command '" + name + "'; there are " + known);
}

}  // namespace

void execute(const std::string& line, std::span<Vf* const> functions) {
    Words words(line);
    const bool chosen = words.accept("vf");
    const unsigned number = chosen ? words.number(0, static_cast<unsigned>(functions.size()) - 1) : 0;
    const std::string name = words.take();
    if (name == "status") return;
    const Command& command = find(name);
    try {
        if (command.port && chosen) throw std::invalid_argument("it is for all functions: without vf N");
        const auto targets = command.port ? functions : functions.subspan(number, 1);
        for (Vf* vf : targets) {
            Words arguments = words;
            command.run(*vf, arguments);
            if (!arguments.empty()) throw std::invalid_argument("'" + arguments.take() + "' is too much");
        }
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(name + " " + std::string(command.arguments) + ": " + error.what());
    }
}

std::string command_help() {
    std::ostringstream help;
    for (const Command& command : commands)
        help << "  " << (command.port ? "" : "[vf N] ") << command.name << ' ' << command.arguments << ": "
             << command.what << '\n';
    return help.str();
}

}  // namespace vitrine::vf_sim
