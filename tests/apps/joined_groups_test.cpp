#include "apps/frame/joined_groups.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "apps/vitrine/learned_groups.hpp"

using namespace vitrine;
using apps::GroupAddress;

namespace {

using Octets = std::vector<std::uint8_t>;

Octets operator+(Octets left, const Octets& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

Octets ethernet(std::uint16_t type) {
    return Octets{0x01, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 1} +
           Octets{static_cast<std::uint8_t>(type >> 8), static_cast<std::uint8_t>(type)};
}

/// With the router alert option, as IGMP is sent (RFC 2236, 2).
Octets ipv4(std::uint8_t protocol, std::uint16_t fragment = 0) {
    return {0x46,
            0,
            0,
            0,
            0,
            0,
            static_cast<std::uint8_t>(fragment >> 8),
            static_cast<std::uint8_t>(fragment),
            1,
            protocol,
            0,
            0,
            10,
            0,
            0,
            1,
            224,
            0,
            0,
            22,
            0x94,
            4,
            0,
            0};
}

const Octets unspecified(16, 0);
const Octets link_local{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0xaa, 0xbb, 0xcc};
const Octets group_1234{0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78};
const Octets router_alert{58, 0, 5, 2, 0, 0, 1, 0};

Octets ipv6(std::uint8_t next, const Octets& source = link_local) {
    return Octets{0x60, 0, 0, 0, 0, 0, next, 1} + source + Octets(16, 0xff);
}

std::vector<GroupAddress> groups_in(const Octets& octets, std::size_t room = 32) {
    std::vector<std::byte> frame(octets.size());  // of exactly this size, so that a sanitizer sees a step beyond it
    std::ranges::transform(octets, frame.begin(), [](std::uint8_t octet) { return std::byte{octet}; });
    std::vector<GroupAddress> groups(room);
    groups.resize(apps::joined_groups(frame, groups));
    return groups;
}

const GroupAddress ip_1_2_3{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03};  // 239.1.2.3 and 224.129.2.3

}  // namespace

TEST_CASE("RFC 2236, 2 and RFC 1112, appendix I: a membership report names its group") {
    for (const std::uint8_t type : {0x12, 0x16})
        CHECK(groups_in(ethernet(0x0800) + ipv4(2) + Octets{type, 0, 0, 0, 239, 1, 2, 3}) ==
              std::vector<GroupAddress>{ip_1_2_3});
    CHECK(groups_in(ethernet(0x0800) + ipv4(2) + Octets{0x17, 0, 0, 0, 239, 1, 2, 3}).empty());  // leave
    CHECK(groups_in(ethernet(0x0800) + ipv4(2) + Octets{0x11, 0, 0, 0, 239, 1, 2, 3}).empty());  // query
}

TEST_CASE("RFC 1112, 6.4: 23 bits of the group are in the Ethernet address, and only class D addresses are groups") {
    CHECK(groups_in(ethernet(0x0800) + ipv4(2) + Octets{0x16, 0, 0, 0, 224, 129, 2, 3}) ==
          std::vector<GroupAddress>{ip_1_2_3});
    CHECK(groups_in(ethernet(0x0800) + ipv4(2) + Octets{0x16, 0, 0, 0, 10, 1, 2, 3}).empty());
}

TEST_CASE("RFC 3376, 4.2: each record of a version 3 report that joins is heard, sources and auxiliary data skipped") {
    const Octets records = Octets{4, 0, 0, 0, 239, 1, 2, 3}                                          // all sources
                           + Octets{3, 1, 0, 2, 232, 0, 0, 1, 10, 0, 0, 1, 10, 0, 0, 2, 9, 9, 9, 9}  // these two
                           + Octets{3, 0, 0, 0, 239, 9, 9, 9}                                        // none: leaves
                           + Octets{6, 0, 0, 1, 239, 8, 8, 8, 10, 0, 0, 1}                           // blocks a source
                           + Octets{2, 0, 0, 0, 239, 7, 7, 7};
    const Octets report = ethernet(0x0800) + ipv4(2) + Octets{0x22, 0, 0, 0, 0, 0, 0, 5} + records;
    CHECK(groups_in(report) == std::vector<GroupAddress>{ip_1_2_3, {0x01, 0, 0x5e, 0, 0, 1}, {0x01, 0, 0x5e, 7, 7, 7}});
    CHECK(groups_in(report, 1).size() == 1);
}

TEST_CASE("RFC 2710, 3 and RFC 3810, 5.2: MLD reports are found behind the router alert") {
    const GroupAddress expected{0x33, 0x33, 0x12, 0x34, 0x56, 0x78};
    CHECK(groups_in(ethernet(0x86dd) + ipv6(0) + router_alert + Octets{131, 0, 0, 0, 0, 0, 0, 0} + group_1234) ==
          std::vector<GroupAddress>{expected});
    const Octets version_2 = Octets{143, 0, 0, 0, 0, 0, 0, 2} + Octets{3, 0, 0, 0} + group_1234 + Octets{4, 0, 0, 1} +
                             group_1234 + Octets(16, 1);
    CHECK(groups_in(ethernet(0x86dd) + ipv6(0) + router_alert + version_2) == std::vector<GroupAddress>{expected});
    CHECK(groups_in(ethernet(0x86dd) + ipv6(58) + Octets{131, 0, 0, 0, 0, 0, 0, 0} + link_local).empty());
}

TEST_CASE("RFC 4862, 5.4.2: who solicits from nowhere, or advertises, listens to that address's solicited-node group") {
    const GroupAddress expected{0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc};
    const Octets target = Octets(8, 0) + link_local;
    const auto message = [&](std::uint8_t type) { return Octets{type} + Octets(target.begin() + 1, target.end()); };
    CHECK(groups_in(ethernet(0x86dd) + ipv6(58, unspecified) + message(135)) == std::vector<GroupAddress>{expected});
    CHECK(groups_in(ethernet(0x86dd) + ipv6(58) + message(135)).empty());  // it asks for somebody else
    CHECK(groups_in(ethernet(0x86dd) + ipv6(58) + message(136)) == std::vector<GroupAddress>{expected});
}

TEST_CASE("IEEE 802.1Q: a report may be tagged") {
    const Octets tagged = Octets{1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 10, 8, 0};
    CHECK(groups_in(tagged + ipv4(2) + Octets{0x16, 0, 0, 0, 239, 1, 2, 3}) == std::vector<GroupAddress>{ip_1_2_3});
}

TEST_CASE("fragments, other protocols and reports that are cut off anywhere report nothing that is not there") {
    const Octets report{0x16, 0, 0, 0, 239, 1, 2, 3};
    CHECK(groups_in(ethernet(0x0800) + ipv4(2, 0x2000) + report).empty());
    CHECK(groups_in(ethernet(0x0800) + ipv4(2, 1) + report).empty());
    CHECK(groups_in(ethernet(0x0800) + ipv4(17) + report).empty());
    CHECK(groups_in(ethernet(0x0806) + ipv4(2) + report).empty());
    const Octets whole = ethernet(0x0800) + ipv4(2) + report;
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK(groups_in(Octets(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))).empty());
    const Octets promises = ethernet(0x86dd) + ipv6(0) + router_alert + Octets{143, 0, 0, 0, 0, 0, 0xff, 0xff} +
                            Octets{4, 0xff, 0xff, 0xff} + group_1234;
    CHECK(groups_in(promises).size() == 1);
}

TEST_CASE("learned groups: the latest first, each once, and the oldest gives way when the filter is full") {
    apps::LearnedGroups learned;
    for (std::uint8_t i = 0; i < apps::LearnedGroups::most; ++i) CHECK(learned.hear({1, 0, 0x5e, 0, 0, i}));
    CHECK_FALSE(learned.hear({1, 0, 0x5e, 0, 0, 0}));
    CHECK(learned.list().front() == GroupAddress{1, 0, 0x5e, 0, 0, 0});
    CHECK(learned.hear({1, 0, 0x5e, 1, 1, 1}));
    CHECK(learned.list().size() == apps::LearnedGroups::most);
    CHECK(learned.hear({1, 0, 0x5e, 0, 0, 1}));  // had to go: it was the longest unheard
}
