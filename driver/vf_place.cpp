#include "driver/vf_place.hpp"

#include <algorithm>
#include <charconv>

namespace vitrine::driver {
namespace {

bool is_hex(char digit) {
    return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
}

/// "dddd:bb:dd.f" in lower case, as sysfs spells it. Nothing shorter: what is guessed may be another function.
bool is_pci_address(std::string_view text) {
    constexpr std::string_view pattern = "xxxx:xx:xx.x";
    return std::ranges::equal(
        text, pattern, [](char actual, char wanted) { return wanted == 'x' ? is_hex(actual) : actual == wanted; });
}

/// As the kernel takes them; the name becomes a part of a path.
bool is_interface_name(std::string_view text) {
    constexpr std::size_t longest = 15;
    return !text.empty() && text.size() <= longest && text != "." && text != ".." &&
           std::ranges::none_of(text, [](unsigned char c) { return c == ':' || c <= ' ' || c > '~'; });
}

}  // namespace

std::optional<VfPlace> parse_vf_place(std::string_view text) {
    constexpr std::string_view vfio_user = "vfio-user:";
    constexpr unsigned most_index = 255;
    if (text.starts_with(vfio_user)) {
        if (text.size() == vfio_user.size()) return std::nullopt;
        return VfioUserSocket{std::string(text.substr(vfio_user.size()))};
    }
    if (is_pci_address(text)) return PciFunction{std::string(text)};

    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos || !is_interface_name(text.substr(0, slash))) return std::nullopt;
    PfAndIndex place{std::string(text.substr(0, slash)), 0};
    const char* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + slash + 1, end, place.index);
    if (read.ec != std::errc() || read.ptr != end || place.index > most_index) return std::nullopt;
    return place;
}

}  // namespace vitrine::driver
