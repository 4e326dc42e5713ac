#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "apps/frame/wire_bytes.hpp"

/// Frames as octets, put together in tests.
namespace vitrine::test {

using Bytes = std::vector<std::byte>;

/// "45 00 0034": hexadecimal digits, blanks between them as you like.
inline Bytes hex(const std::string& text) {
    Bytes bytes;
    std::string digits;
    for (const char c : text)
        if (c != ' ' && c != '\n') digits += c;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        bytes.push_back(static_cast<std::byte>(std::stoul(digits.substr(i, 2), nullptr, 16)));
    return bytes;
}
inline Bytes operator+(Bytes left, const Bytes& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}
inline void put16(Bytes& bytes, std::size_t at, std::size_t value) {
    apps::store16(&bytes.at(at), static_cast<std::uint16_t>(value));
}

inline apps::IpAddress ipv4(std::uint8_t last) {
    return {.octets = {10, 0, 0, last}, .v6 = false};
}
inline apps::IpAddress ipv6(std::uint8_t last) {
    return {.octets = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, .v6 = true};
}

}  // namespace vitrine::test
