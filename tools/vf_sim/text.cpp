#include "tools/vf_sim/text.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace vitrine::vf_sim {

std::string text_of(const mem::EthernetAddress& address) {
    char text[18];
    std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", address[0], address[1], address[2], address[3],
                  address[4], address[5]);
    return text;
}

std::optional<mem::EthernetAddress> parse_address(const std::string& text) {
    unsigned bytes[6];
    int end = 0;
    const int got = std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%n", &bytes[0], &bytes[1], &bytes[2], &bytes[3],
                                &bytes[4], &bytes[5], &end);
    if (got != 6 || static_cast<std::size_t>(end) != text.size() || (bytes[0] & 1) != 0) return std::nullopt;
    mem::EthernetAddress address;
    std::copy(std::begin(bytes), std::end(bytes), address.begin());
    return address;
}

std::optional<unsigned> parse_number(const std::string& text, unsigned least, unsigned most) {
    unsigned value = 0;
    const char* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    if (read.ec != std::errc{} || read.ptr != end || value < least || value > most) return std::nullopt;
    return value;
}

}  // namespace vitrine::vf_sim
