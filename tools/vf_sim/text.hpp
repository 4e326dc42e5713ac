#pragma once

#include <optional>
#include <string>

#include "mem/test_frame.hpp"

namespace vitrine::vf_sim {

std::string text_of(const mem::EthernetAddress& address);
/// A unicast address like 02:00:00:00:00:01. Nothing when it is none.
std::optional<mem::EthernetAddress> parse_address(const std::string& text);
/// A decimal number and nothing behind it.
std::optional<unsigned> parse_number(const std::string& text, unsigned least, unsigned most);

}  // namespace vitrine::vf_sim
