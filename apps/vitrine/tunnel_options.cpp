#include "apps/vitrine/tunnel_options.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <map>
#include <sstream>
#include <stdexcept>

namespace vitrine::apps {
namespace {

using Values = std::map<std::string, std::string>;

Values split(const std::string& list) {
    Values values;
    std::istringstream stream(list);
    for (std::string part; std::getline(stream, part, ',');) {
        const std::size_t equals = part.find('=');
        if (equals == 0 || equals == std::string::npos) throw std::invalid_argument("'" + part + "' is not KEY=VALUE");
        if (!values.emplace(part.substr(0, equals), part.substr(equals + 1)).second)
            throw std::invalid_argument(part.substr(0, equals) + " is given twice");
    }
    return values;
}

/// The value of a key, which is then no longer among those that nobody asked for. Nothing: it is not there.
std::optional<std::string> take(Values& values, const std::string& key) {
    const auto node = values.extract(key);
    return node.empty() ? std::nullopt : std::optional(node.mapped());
}
std::string require(Values& values, const std::string& key) {
    auto value = take(values, key);
    if (!value) throw std::invalid_argument(key + "= is missing");
    return *std::move(value);
}

std::uint32_t number(const std::string& key, const std::string& text, std::uint32_t least, std::uint32_t most) {
    std::uint32_t value = 0;
    const char* const end = text.data() + text.size();
    if (std::from_chars(text.data(), end, value).ptr != end || text.empty() || value < least || value > most)
        throw std::invalid_argument(key + "=" + text + " is not a number from " + std::to_string(least) + " to " +
                                    std::to_string(most));
    return value;
}
std::uint16_t vlan_number(const std::string& key, const std::string& text) {
    return static_cast<std::uint16_t>(number(key, text, 1, 4094));
}

/// Of one host: neither a group nor broadcast nor nothing.
IpAddress host_address(const std::string& key, const std::string& text) {
    IpAddress address;
    address.v6 = text.find(':') != std::string::npos;
    const bool read = ::inet_pton(address.v6 ? AF_INET6 : AF_INET, text.c_str(), address.octets.data()) == 1;
    const std::uint8_t first = address.octets[0];
    if (!read || (address.v6 ? first == 0xff || address.octets == IpAddress{}.octets : first == 0 || first >= 224))
        throw std::invalid_argument(key + "=" + text + " is not the IPv4 or IPv6 address of a host");
    return address;
}

MacAddress station_address(const std::string& key, const std::string& text) {
    MacAddress address{};
    bool read = text.size() == 17;
    for (std::size_t i = 0; read && i < address.size(); ++i) {
        const char* const begin = text.data() + 3 * i;
        read = std::from_chars(begin, begin + 2, address[i], 16).ptr == begin + 2 && (i == 5 || begin[2] == ':');
    }
    if (!read || !is_station(address)) throw std::invalid_argument(key + "=" + text + " is not the MAC of one station");
    return address;
}

TunnelEnds read_ends(Values& values, Encapsulation encapsulation) {
    TunnelEnds ends{.encapsulation = encapsulation, .vni = 0, .port = 0, .local = {}, .remote = {}};
    ends.vni = number("vni", require(values, "vni"), 0, most_vni);
    ends.port = encapsulation == Encapsulation::vxlan ? vxlan_port : geneve_port;
    if (const auto port = take(values, "port"))
        ends.port = static_cast<std::uint16_t>(number("port", *port, 1, 0xffff));
    ends.local = host_address("local", require(values, "local"));
    ends.remote = host_address("remote", require(values, "remote"));
    if (ends.local.v6 != ends.remote.v6) throw std::invalid_argument("local and remote must both be IPv4 or both IPv6");
    if (ends.local == ends.remote) throw std::invalid_argument("local and remote are the same");
    return ends;
}

}  // namespace

TunnelOptions parse_tunnel(const std::string& text) {
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::string kind = text.substr(0, colon);
    Values values = split(text.substr(std::min(colon + 1, text.size())));
    TunnelOptions options;
    if (kind == "vlan") {
        options.vlan = vlan_number("id", require(values, "id"));
    } else if (kind == "vxlan" || kind == "geneve") {
        options.ends = read_ends(values, kind == "vxlan" ? Encapsulation::vxlan : Encapsulation::geneve);
        if (const auto vlan = take(values, "vlan")) options.vlan = vlan_number("vlan", *vlan);
        if (const auto gateway = take(values, "gateway")) options.gateway = host_address("gateway", *gateway);
        if (const auto mac = take(values, "remote-mac")) options.next_hop_mac = station_address("remote-mac", *mac);
        if (options.gateway && options.next_hop_mac)
            throw std::invalid_argument("gateway and remote-mac: one of them says where frames go");
        if (options.gateway && options.gateway->v6 != options.ends->local.v6)
            throw std::invalid_argument("gateway and local must both be IPv4 or both IPv6");
    } else {
        throw std::invalid_argument("'" + kind + "' is none of vxlan, geneve, vlan");
    }
    if (!values.empty()) throw std::invalid_argument(kind + " has no " + values.begin()->first);
    return options;
}

std::string text_of(const IpAddress& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    ::inet_ntop(address.v6 ? AF_INET6 : AF_INET, address.octets.data(), text.data(), text.size());
    return text.data();
}

}  // namespace vitrine::apps
