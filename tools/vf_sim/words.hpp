#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tools/vf_sim/text.hpp"

namespace vitrine::vf_sim {

/// The words of an operator's line, taken from the left. Each taker throws std::invalid_argument naming a wrong word.
class Words {
public:
    explicit Words(const std::string& line);

    bool empty() const { return next_ == words_.size(); }
    std::string take() { return empty() ? std::string() : words_[next_++]; }
    /// Takes the next word if it is this one.
    bool accept(std::string_view word);
    unsigned number(unsigned least, unsigned most);
    /// Which of two words it is.
    bool choice(std::string_view yes, std::string_view no);
    bool on_off() { return choice("on", "off"); }

private:
    std::vector<std::string> words_;
    std::size_t next_ = 0;
};

}  // namespace vitrine::vf_sim
