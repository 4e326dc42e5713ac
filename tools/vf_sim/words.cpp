#include "tools/vf_sim/words.hpp"

#include <sstream>

namespace vitrine::vf_sim {

Words::Words(const std::string& line) {
    std::istringstream stream(line);
    for (std::string word; stream >> word;) words_.push_back(word);
}

bool Words::accept(std::string_view word) {
    const bool same = !empty() && words_[next_] == word;
    next_ += same;
    return same;
}

unsigned Words::number(unsigned least, unsigned most) {
    const std::string word = take();
    const auto value = parse_number(word, least, most);
    if (!value)
        throw std::invalid_argument("'" + word + "' is not a number from " + std::to_string(least) + " to " +
                                    std::to_string(most));
    return *value;
}

bool Words::choice(std::string_view yes, std::string_view no) {
    if (accept(yes)) return true;
    if (accept(no)) return false;
    throw std::invalid_argument("'" + take() + "' is neither " + std::string(yes) + " nor " + std::string(no));
}

}  // namespace vitrine::vf_sim
