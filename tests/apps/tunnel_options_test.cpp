#include "apps/vitrine/tunnel_options.hpp"

#include <stdexcept>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "tests/support/frames.hpp"

using namespace vitrine;
using apps::parse_tunnel;

namespace {

std::string refusal(const std::string& text) {
    try {
        parse_tunnel(text);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("--tunnel vxlan with what it must have, and the port that IANA gave it") {
    const auto options = parse_tunnel("vxlan:vni=42,local=10.0.0.1,remote=10.0.0.2");
    REQUIRE(options.ends);
    CHECK(options.ends->encapsulation == apps::Encapsulation::vxlan);
    CHECK(options.ends->vni == 42);
    CHECK(options.ends->port == 4789);
    CHECK(options.ends->local == test::ipv4(1));
    CHECK(options.ends->remote == test::ipv4(2));
    CHECK(options.overhead_bytes() == 50);
    CHECK_FALSE(options.vlan);
}

TEST_CASE("--tunnel geneve over IPv6, with all that it can have") {
    const auto options =
        parse_tunnel("geneve:vni=16777215,port=7000,local=fd00::1,remote=fd00::2,gateway=fd00::9,vlan=7");
    REQUIRE(options.ends);
    CHECK(options.ends->encapsulation == apps::Encapsulation::geneve);
    CHECK(options.ends->port == 7000);
    CHECK(options.ends->remote == test::ipv6(2));
    CHECK(options.gateway == test::ipv6(9));
    CHECK(options.vlan == 7);
    CHECK(options.overhead_bytes() == 70);
    CHECK(apps::text_of(*options.gateway) == "fd00::9");
    CHECK(parse_tunnel("geneve:vni=1,local=10.0.0.1,remote=10.0.0.2").ends->port == 6081);
}

TEST_CASE("--tunnel vlan takes nothing off the MTU") {
    const auto options = parse_tunnel("vlan:id=10");
    CHECK_FALSE(options.ends);
    CHECK(options.vlan == 10);
    CHECK(options.overhead_bytes() == 0);
}

TEST_CASE("--tunnel with the address of the next hop") {
    const auto options = parse_tunnel("vxlan:vni=1,local=10.0.0.1,remote=10.0.0.2,remote-mac=02:00:00:00:00:0f");
    CHECK(options.next_hop_mac == apps::MacAddress{2, 0, 0, 0, 0, 15});
}

TEST_CASE("a --tunnel that cannot be meant is refused in words") {
    const std::string good = "vxlan:vni=1,local=10.0.0.1,remote=10.0.0.2";
    CHECK(refusal(good).empty());
    CHECK(refusal("gre:key=1") == "'gre' is none of vxlan, geneve, vlan");
    CHECK(refusal("") == "'' is none of vxlan, geneve, vlan");
    CHECK(refusal("vxlan:local=10.0.0.1,remote=10.0.0.2") == "vni= is missing");
    CHECK(refusal("vxlan:vni=1,local=10.0.0.1") == "remote= is missing");
    CHECK(refusal(good + ",vni=2") == "vni is given twice");
    CHECK(refusal(good + ",colour=blue") == "vxlan has no colour");
    CHECK(refusal(good + ",vlan") == "'vlan' is not KEY=VALUE");
    CHECK_FALSE(refusal("vxlan:vni=16777216,local=10.0.0.1,remote=10.0.0.2").empty());
    CHECK_FALSE(refusal("vxlan:vni=,local=10.0.0.1,remote=10.0.0.2").empty());
    CHECK_FALSE(refusal("vxlan:vni=1,local=10.0.0.1,remote=fd00::2").empty());
    CHECK_FALSE(refusal("vxlan:vni=1,local=10.0.0.1,remote=10.0.0.1").empty());
    CHECK_FALSE(refusal("vxlan:vni=1,local=10.0.0.1,remote=224.0.0.1").empty());
    CHECK_FALSE(refusal("vxlan:vni=1,local=10.0.0.1,remote=host").empty());
    CHECK_FALSE(refusal("vxlan:vni=1,local=::,remote=fd00::2").empty());
    CHECK_FALSE(refusal(good + ",port=0").empty());
    CHECK_FALSE(refusal(good + ",port=65536").empty());
    CHECK_FALSE(refusal(good + ",remote-mac=01:00:00:00:00:01").empty());
    CHECK_FALSE(refusal(good + ",remote-mac=02:00:00:00:00").empty());
    CHECK_FALSE(refusal(good + ",gateway=fd00::1").empty());
    CHECK_FALSE(refusal(good + ",gateway=10.0.0.9,remote-mac=02:00:00:00:00:01").empty());
    CHECK_FALSE(refusal("vlan:id=0").empty());
    CHECK_FALSE(refusal("vlan:id=4095").empty());
    CHECK_FALSE(refusal("vlan:id=1,vni=4").empty());
}
