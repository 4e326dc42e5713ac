#include <algorithm>
#include <vector>

#include "apps/frame/neighbour_message.hpp"
#include "apps/frame/outer_reader.hpp"
#include "apps/frame/outer_writer.hpp"
#include "tests/fuzz/input.hpp"

using namespace vitrine;

namespace {

apps::IpAddress address(bool v6, std::uint8_t last) {
    if (v6) return {.octets = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, .v6 = true};
    return {.octets = {10, 0, 0, last}, .v6 = false};
}

}  // namespace

/// A frame from the wire to a tunnel's end, in memory that ends where the frame does. The first byte says which tunnel:
/// bit 0 GENEVE, bit 1 IPv6. What is found must lie in the frame, and what is answered must be one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t kind = input.byte();
    const bool geneve = (kind & 1) != 0, v6 = (kind & 2) != 0;
    const apps::TunnelEnds ends{geneve ? apps::Encapsulation::geneve : apps::Encapsulation::vxlan, 42,
                                geneve ? apps::geneve_port : apps::vxlan_port, address(v6, 1), address(v6, 2)};
    const auto bytes = input.take_bytes(size);
    const std::vector<std::byte> frame(bytes.begin(), bytes.end());
    const std::vector<std::byte> copy(
        frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(std::min(frame.size(), apps::most_outer_bytes)));

    const apps::OuterFrame outer = apps::read_outer(copy, frame.size(), ends);
    if (outer.verdict == apps::Outer::ours) {
        fuzz::check(outer.inner_bytes >= apps::ethernet_header_bytes);
        fuzz::check(outer.inner_offset >= ends.outer_bytes() &&
                    std::size_t{outer.inner_offset} + outer.inner_bytes <= frame.size());
        apps::outer_pseudo_header_sum(copy, outer, ends);
        apps::flow_hash(std::span(frame).subspan(outer.inner_offset, outer.inner_bytes));
    }

    const apps::NeighbourPlace place{{2, 0, 0, 0, 0, 1}, ends.local, ends.remote};
    const apps::NeighbourNews news = apps::read_neighbour(frame, place);
    if (news.address) fuzz::check(apps::is_station(*news.address) && *news.address != place.own);
    if (news.answer) {
        const auto answer = news.answer->view();
        fuzz::check(answer.size() == (v6 ? 86u : 42u) && apps::load_mac(&answer[6]) == place.own);
        fuzz::check(!apps::read_neighbour(answer, place).answer);  // two ends must not answer each other for ever
    }
    return 0;
}
