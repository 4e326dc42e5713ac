#include "driver/filters.hpp"

#include <algorithm>

#include "tests/driver/vf_bench.hpp"

using namespace vitrine;
using driver::MessageType;
using driver::MulticastFilter;
using driver::ReceiveMode;
using tests::VfBench;

TEST_CASE("82599 8.2.3.7.1: each filter type hashes its own 12 of the last 16 address bits") {
    const driver::MacAddress address{0x01, 0x00, 0x5e, 0x00, 0xc5, 0xa3};  // last two bytes, low first: a3c5
    CHECK(driver::multicast_hash(address, MulticastFilter::bits_47_36) == 0xa3c);
    CHECK(driver::multicast_hash(address, MulticastFilter::bits_46_35) == (0xa3c5 >> 3 & 0xfff));
    CHECK(driver::multicast_hash(address, MulticastFilter::bits_45_34) == (0xa3c5 >> 2 & 0xfff));
    CHECK(driver::multicast_hash(address, MulticastFilter::bits_43_32) == 0x3c5);
}

TEST_CASE("a trusting PF grants all-multicast, and no hashes are needed") {
    VfBench bench;
    bench.vf.reset(tests::fallback_mac);
    const auto grant = bench.vf.set_filters({});
    CHECK(grant.mode == ReceiveMode::all_multicast);
    CHECK(grant.hashes.empty());
    CHECK(bench.nic.pf.count(MessageType::set_multicast) == 0);
}

TEST_CASE("a PF that lowers all-multicast gets the hashes that a guest cannot do without") {
    VfBench bench;
    bench.nic.pf.trusts = false;
    bench.nic.pf.multicast_filter = 3;
    bench.vf.reset(tests::fallback_mac);
    const driver::MacAddress group{0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb};
    const auto grant = bench.vf.set_filters({.groups = {group}});
    CHECK(grant.mode == ReceiveMode::multicast_hashes);
    REQUIRE(grant.hashes.size() == 3);  // all-nodes and all-systems end in the same two bytes
    CHECK(grant.hashes[0] == 0x100);    // 33:33:00:00:00:01
    CHECK(grant.hashes[1] == 0x302);    // 33:33:ff:01:02:03, the MAC ends in 01:02:03
    CHECK(grant.hashes[2] == 0xb00);
    const auto& request = bench.nic.pf.last(MessageType::set_multicast);
    CHECK(request[0] == (0x03 | 3u << 16));
    CHECK(request[1] == 0x0302'0100);
    CHECK(request[2] == 0x0b00);
}

TEST_CASE("at most 30 hashes fit, and the rest is counted") {
    std::vector<driver::MacAddress> groups;
    for (std::uint8_t i = 0; i < 40; ++i) groups.push_back({0x01, 0x00, 0x5e, 0x00, i, 0x10});
    std::size_t left_out = 0;
    const auto hashes = driver::multicast_hashes({2, 0, 0, 7, 8, 9}, groups, MulticastFilter::bits_43_32, left_out);
    CHECK(hashes.size() == driver::most_multicast_hashes);
    CHECK(left_out == 40 - (30 - 2));
}

TEST_CASE("promiscuous falls to all-multicast where the part cannot do it, and to hashes without trust") {
    VfBench bench;
    bench.nic.pf.promiscuous_works = false;  // as on the 82599
    bench.vf.reset(tests::fallback_mac);
    CHECK(bench.vf.set_filters({.promiscuous = true, .all_multicast = false}).mode == ReceiveMode::all_multicast);
    bench.nic.pf.promiscuous_works = true;
    CHECK(bench.vf.set_filters({.promiscuous = true}).mode == ReceiveMode::promiscuous);
    bench.nic.pf.trusts = false;
    CHECK(bench.vf.set_filters({.promiscuous = true}).mode == ReceiveMode::multicast_hashes);
}

TEST_CASE("an old API knows no receive modes, only hashes") {
    VfBench bench;
    bench.nic.pf.newest_api = driver::MailboxApi::v1_1;
    bench.vf.reset(tests::fallback_mac);
    const auto grant = bench.vf.set_filters({.promiscuous = true});
    CHECK(grant.mode == ReceiveMode::multicast_hashes);
    CHECK(bench.nic.pf.count(MessageType::update_receive_mode) == 0);
    CHECK(bench.nic.pf.count(MessageType::set_multicast) == 1);
}

TEST_CASE("API 1.2 has no promiscuous mode to ask for") {
    VfBench bench;
    bench.nic.pf.newest_api = driver::MailboxApi::v1_2;
    bench.vf.reset(tests::fallback_mac);
    CHECK(bench.vf.set_filters({.promiscuous = true}).mode == ReceiveMode::all_multicast);
    CHECK(bench.nic.pf.count(MessageType::update_receive_mode) == 1);
}

TEST_CASE("each VLAN is asked for, and a refused one is named") {
    VfBench bench;
    bench.nic.pf.refused_vlan = 200;
    bench.vf.reset(tests::fallback_mac);
    const auto grant = bench.vf.set_filters({.vlans = {100, 200, 300}});
    CHECK(grant.vlans_refused == std::vector<std::uint16_t>{200});
    CHECK(bench.nic.pf.count(MessageType::set_vlan) == 3);
    const auto& request = bench.nic.pf.last(MessageType::set_vlan);
    CHECK(request[0] == (0x04 | 1u << 16));
    CHECK(request[1] == 300);
}

TEST_CASE("a made-up address is local, unicast, and the same each time") {
    const auto address = driver::local_address("machine-1/vm1");
    CHECK((address[0] & 3) == 2);
    CHECK(address == driver::local_address("machine-1/vm1"));
    CHECK(address != driver::local_address("machine-1/vm2"));
}
