#include "apps/frame/neighbour.hpp"

#include <doctest/doctest.h>

#include "apps/frame/neighbour_message.hpp"
#include "tests/support/frames.hpp"

using namespace vitrine;
using namespace std::chrono_literals;
using apps::Neighbour;
using test::Bytes;
using test::hex;
using test::operator+;

namespace {

constexpr apps::MacAddress own{2, 0, 0, 0, 0, 1}, other{2, 0, 0, 0, 0, 2}, moved{2, 0, 0, 0, 0, 3};

const apps::NeighbourPlace place_v4{own, test::ipv4(1), test::ipv4(2)};
const apps::NeighbourPlace place_v6{own, test::ipv6(1), test::ipv6(2)};

const std::string local6 = "fd000000000000000000000000000001", remote6 = "fd000000000000000000000000000002";

Bytes bytes_of(const apps::NeighbourFrame& frame) {
    return {frame.view().begin(), frame.view().end()};
}

/// An ND message from the remote end with the right checksum.
Bytes icmpv6(const std::string& source, const std::string& destination, const std::string& message,
             std::uint8_t hop_limit = 255) {
    Bytes body = hex(message);
    const Bytes addresses = hex(source) + hex(destination);
    const std::uint64_t pseudo = apps::pseudo_header_sum(addresses, 58, body.size());
    test::put16(body, 2, static_cast<std::uint16_t>(~apps::folded(apps::add_to_sum(pseudo, body))));
    Bytes header = hex("60000000 0000 3a 00");
    test::put16(header, 4, body.size());
    header[7] = std::byte{hop_limit};
    return hex("3333ff000001 020000000002 86dd") + header + addresses + body;
}

const std::string group_of_local = "ff0200000000000000000001ff000001";
const std::string solicitation = "87 00 0000 00000000" + local6 + "01 01 020000000002";
const std::string advertisement = "88 00 0000 60000000" + remote6 + "02 01 020000000002";

}  // namespace

TEST_CASE("RFC 826: a request for our address is answered to who asked, octet by octet") {
    const Bytes request =
        hex("ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a000002 000000000000 0a000001");
    const auto news = apps::read_neighbour(request, place_v4);
    REQUIRE(news.answer);
    CHECK(bytes_of(*news.answer) ==
          hex("020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a000001 020000000002 0a000002"));
    CHECK(news.address == other);  // "merge": the request told where its sender is
}

TEST_CASE("RFC 826: a request for another address is not answered, but tells where its sender is") {
    const Bytes request =
        hex("ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a000002 000000000000 0a000009");
    const auto news = apps::read_neighbour(request, place_v4);
    CHECK_FALSE(news.answer);
    CHECK(news.address == other);
}

TEST_CASE("RFC 826: a reply tells where the remote end is; one of anybody else tells nothing") {
    Bytes reply =
        hex("020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001");
    CHECK(apps::read_neighbour(reply, place_v4).address == other);
    reply[31] = std::byte{9};
    CHECK_FALSE(apps::read_neighbour(reply, place_v4).concerns_us);
}

TEST_CASE("RFC 5227, 2.1.1: a probe for our address, from nobody yet, is answered") {
    const Bytes probe =
        hex("ffffffffffff 020000000007 0806 0001 0800 06 04 0001 020000000007 00000000 000000000000 0a000001");
    const auto news = apps::read_neighbour(probe, place_v4);
    CHECK(news.answer.has_value());
    CHECK_FALSE(news.address);
}

TEST_CASE("RFC 826: other hardware, protocol, lengths or operation, or a group as a sender, say nothing") {
    const Bytes good =
        hex("020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001");
    for (const std::size_t at : {12u, 15u, 17u, 18u, 19u, 21u}) {
        Bytes bad = good;
        bad[at] ^= std::byte{0x10};
        CHECK_FALSE(apps::read_neighbour(bad, place_v4).concerns_us);
    }
    Bytes group = good;
    group[22] = std::byte{3};
    CHECK_FALSE(apps::read_neighbour(group, place_v4).concerns_us);
    for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
        CHECK_FALSE(
            apps::read_neighbour(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(bytes)), place_v4)
                .concerns_us);
}

TEST_CASE("RFC 826: our question goes to all, and later to the one that answered") {
    CHECK(bytes_of(apps::neighbour_question(place_v4, std::nullopt)) ==
          hex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002"));
    const Bytes again = bytes_of(apps::neighbour_question(place_v4, other));
    CHECK(apps::load_mac(again.data()) == other);
}

TEST_CASE("RFC 4861, 7.2.4: a solicitation for our address is answered, octet by octet but for the checksum") {
    const auto news = apps::read_neighbour(icmpv6(remote6, group_of_local, solicitation), place_v6);
    REQUIRE(news.answer);
    Bytes answer = bytes_of(*news.answer);
    const auto message = std::span(answer).subspan(54);
    const auto addresses = std::span(answer).subspan(22, 32);
    CHECK(apps::folded(apps::add_to_sum(apps::pseudo_header_sum(addresses, 58, 32), message)) == 0xffff);
    test::put16(answer, 56, 0);
    CHECK(answer == hex("020000000002 020000000001 86dd 60000000 0020 3a ff" + local6 + remote6 +
                        "88 00 0000 60000000" + local6 + "02 01 020000000001"));
    CHECK(news.address == other);
}

TEST_CASE("RFC 4861, 7.2.4: one who has no address yet is answered by way of all nodes, unsolicited") {
    const auto news =
        apps::read_neighbour(icmpv6(std::string(32, '0'), group_of_local, "87 00 0000 00000000" + local6), place_v6);
    REQUIRE(news.answer);
    const Bytes answer = bytes_of(*news.answer);
    CHECK(apps::load_mac(answer.data()) == apps::MacAddress{0x33, 0x33, 0, 0, 0, 1});
    CHECK(answer[58] == std::byte{0x20});
    CHECK_FALSE(news.address);
}

TEST_CASE("RFC 4861, 4.3: a solicitation without the option is answered to the frame's own source") {
    const auto news = apps::read_neighbour(icmpv6(remote6, local6, "87 00 0000 00000000" + local6), place_v6);
    REQUIRE(news.answer);
    CHECK(apps::load_mac(news.answer->bytes.data()) == other);
}

TEST_CASE("RFC 4861, 7.1.1: solicitations that must be discarded") {
    const auto ignored = [](const Bytes& frame) { return !apps::read_neighbour(frame, place_v6).concerns_us; };
    CHECK_FALSE(ignored(icmpv6(remote6, group_of_local, solicitation)));
    CHECK(ignored(icmpv6(remote6, group_of_local, solicitation, 254)));  // came over a router
    Bytes bad_checksum = icmpv6(remote6, group_of_local, solicitation);
    bad_checksum[56] ^= std::byte{1};
    CHECK(ignored(bad_checksum));
    CHECK(ignored(icmpv6(remote6, group_of_local, "87 01 0000 00000000" + local6 + "01 01 020000000002")));
    CHECK(ignored(icmpv6(remote6, group_of_local, "87 00 0000 00000000" + local6 + "01 00 020000000002")));
    CHECK(ignored(icmpv6(remote6, group_of_local, "87 00 0000 00000000" + local6 + "01 02 020000000002")));
    CHECK(ignored(icmpv6(remote6, group_of_local, "87 00 0000 00000000" + local6.substr(0, 30))));
    const std::string nowhere(32, '0');
    CHECK(ignored(icmpv6(nowhere, group_of_local, solicitation)));            // with an address to tell
    CHECK(ignored(icmpv6(nowhere, local6, "87 00 0000 00000000" + local6)));  // not to the group
    const std::string group_target = "87 00 0000 00000000" + group_of_local;
    CHECK(ignored(icmpv6(remote6, group_of_local, group_target)));
}

TEST_CASE("RFC 4861, 7.1.2 and 7.2.5: an advertisement tells where the remote end is, and whether it may displace") {
    const auto news = apps::read_neighbour(icmpv6(remote6, local6, advertisement), place_v6);
    CHECK(news.address == other);
    CHECK(news.overrides);
    const auto weak =
        apps::read_neighbour(icmpv6(remote6, local6, "88 00 0000 40000000" + remote6 + "02 01 020000000002"), place_v6);
    CHECK(weak.address == other);
    CHECK_FALSE(weak.overrides);
    const auto ignored = [](const Bytes& frame) { return !apps::read_neighbour(frame, place_v6).concerns_us; };
    CHECK(ignored(icmpv6(remote6, "ff020000000000000000000000000001", advertisement)));  // solicited, yet to a group
    CHECK(ignored(icmpv6(remote6, local6, "88 00 0000 60000000" + remote6)));            // no address in it
    CHECK(ignored(icmpv6(remote6, local6, "88 00 0000 60000000" + local6 + "02 01 020000000002")));
    CHECK(ignored(icmpv6(remote6, local6, advertisement, 64)));
}

TEST_CASE("RFC 4861, 7.2.2: our solicitation goes to the group of the address, from ours, and is right") {
    const Bytes question = bytes_of(apps::neighbour_question(place_v6, std::nullopt));
    CHECK(apps::load_mac(question.data()) == apps::MacAddress{0x33, 0x33, 0xff, 0, 0, 2});
    // The remote end reads it as the question for itself.
    const auto news = apps::read_neighbour(question, {other, test::ipv6(2), test::ipv6(1)});
    CHECK(news.answer.has_value());
    CHECK(news.address == own);
    const Bytes again = bytes_of(apps::neighbour_question(place_v6, other));
    CHECK(apps::load_mac(again.data()) == other);
    CHECK(std::equal(again.begin() + 38, again.begin() + 54, hex(remote6).begin()));
}

TEST_CASE("an unknown neighbour is asked for at once, each second, and after three times every five") {
    Neighbour neighbour;
    Neighbour::Time now{100s};
    CHECK(neighbour.due(now) == Neighbour::Ask::everyone);
    CHECK(neighbour.due(now + 999ms) == Neighbour::Ask::nobody);
    CHECK(neighbour.due(now + 1s) == Neighbour::Ask::everyone);
    CHECK(neighbour.due(now + 2s) == Neighbour::Ask::everyone);
    CHECK(neighbour.is_hopeful());
    CHECK(neighbour.due(now + 3s) == Neighbour::Ask::everyone);
    CHECK_FALSE(neighbour.is_hopeful());
    CHECK(neighbour.due(now + 7s) == Neighbour::Ask::nobody);
    CHECK(neighbour.due(now + 8s) == Neighbour::Ask::everyone);
    CHECK_FALSE(neighbour.address());
    neighbour.heard(other, false, now + 9s);
    CHECK(neighbour.address() == other);
    CHECK(neighbour.is_hopeful());
}

TEST_CASE("RFC 4861, 7.3.3: after 30 s it is asked itself, three times, and then forgotten") {
    Neighbour neighbour;
    const Neighbour::Time now{100s};
    neighbour.heard(other, true, now);
    CHECK(neighbour.due(now + 29s) == Neighbour::Ask::nobody);
    CHECK(neighbour.due(now + 30s) == Neighbour::Ask::itself);
    CHECK(neighbour.due(now + 31s) == Neighbour::Ask::itself);
    CHECK(neighbour.due(now + 32s) == Neighbour::Ask::itself);
    CHECK(neighbour.address() == other);
    CHECK(neighbour.due(now + 33s) == Neighbour::Ask::everyone);
    CHECK_FALSE(neighbour.address());
    neighbour.heard(other, true, now + 34s);
    CHECK(neighbour.due(now + 63s) == Neighbour::Ask::nobody);
}

TEST_CASE("RFC 4861, 7.2.5: what does not override does not displace an address that works") {
    Neighbour neighbour;
    const Neighbour::Time now{100s};
    neighbour.heard(other, true, now);
    neighbour.heard(moved, false, now);
    CHECK(neighbour.address() == other);
    neighbour.heard(moved, true, now);
    CHECK(neighbour.address() == moved);
}

TEST_CASE("a neighbour whose address was given is never asked and never forgotten") {
    Neighbour neighbour(other);
    CHECK(neighbour.due(Neighbour::Time{1000h}) == Neighbour::Ask::nobody);
    neighbour.heard(moved, true, Neighbour::Time{1000h});
    CHECK(neighbour.address() == other);
}
