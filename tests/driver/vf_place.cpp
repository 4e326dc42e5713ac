#include "driver/vf_place.hpp"

#include <doctest/doctest.h>

using namespace vitrine::driver;

TEST_CASE("a VF is named by its PCI address, by PF and index, or by a vfio-user socket") {
    const auto function = parse_vf_place("0000:03:10.1");
    REQUIRE(function);
    CHECK(std::get<PciFunction>(*function).address == "0000:03:10.1");
    const auto named = parse_vf_place("enp3s0f0/12");
    REQUIRE(named);
    CHECK(std::get<PfAndIndex>(*named).pf == "enp3s0f0");
    CHECK(std::get<PfAndIndex>(*named).index == 12);
    const auto socket = parse_vf_place("vfio-user:/run/vf.sock");
    REQUIRE(socket);
    CHECK(std::get<VfioUserSocket>(*socket).path == "/run/vf.sock");
}

TEST_CASE("nothing is guessed from a short or a strange name, and no name leaves its directory") {
    for (const char* text : {"", "03:10.1", "0000:03:10", "0000:03:10.1 ", "0000:03:10.G", "0000:0A:00.0", "eth0",
                             "eth0/", "eth0/x", "eth0/-1", "eth0/1x", "eth0/256", "/1", "../1", "./1", "a/b/1",
                             "an_interface_name/0", "eth 0/1", "vfio-user:"}) {
        CAPTURE(std::string(text));
        CHECK_FALSE(parse_vf_place(text).has_value());
    }
}
