#include "apps/vitrine/tunnel.hpp"

#include <algorithm>

namespace vitrine::apps {
namespace {

/// The first bytes of a frame, each read once: where the guest can write the page after all, what was checked stays.
template <std::size_t most>
class HeaderCopy {
public:
    HeaderCopy(const mem::PagePool& pool, const driver::Packet& first) noexcept
        : bytes_(std::min<std::size_t>(first.length_bytes, most)) {
        std::memcpy(copy_.data(), pool.bytes(first.page).data(), bytes_);
    }
    std::span<const std::byte> view() const { return std::span(copy_).first(bytes_); }

private:
    std::size_t bytes_;
    std::array<std::byte, most> copy_;
};

std::uint64_t ReceivePathCounters::* counter_of(Outer verdict) noexcept {
    switch (verdict) {
        case Outer::ours:
            return nullptr;
        case Outer::not_tunnel:
            break;
        case Outer::wrong_vni:
            return &ReceivePathCounters::drop_wrong_vni;
        case Outer::fragment:
            return &ReceivePathCounters::drop_outer_fragment;
        case Outer::malformed:
            return &ReceivePathCounters::drop_outer_malformed;
        case Outer::unsupported:
            return &ReceivePathCounters::drop_outer_unsupported;
    }
    return &ReceivePathCounters::drop_not_tunnel;
}

}  // namespace

void Tunnel::start(const MacAddress& own) noexcept {
    outgoing_ = 0;
    if (!options_.ends) return;
    writer_.emplace(*options_.ends, own);
    place_ = {.own = own, .local = options_.ends->local, .sought = options_.gateway.value_or(options_.ends->remote)};
}

void Tunnel::tick(Time now) noexcept {
    now_ = now;
    if (!writer_) return;
    const Neighbour::Ask ask = neighbour_.due(now);
    if (ask == Neighbour::Ask::nobody) return;
    post(neighbour_question(place_, ask == Neighbour::Ask::itself ? neighbour_.address() : std::nullopt));
}

Tunnel::Arrival Tunnel::arrive(const mem::PagePool& pool, std::span<const driver::Packet> packets,
                               std::size_t frame_bytes) noexcept {
    if (options_.vlan && packets.back().vlan != *options_.vlan) return {&ReceivePathCounters::drop_not_tunnel};
    if (!options_.ends) return {nullptr, 0, static_cast<std::uint32_t>(frame_bytes)};

    const HeaderCopy<most_outer_bytes> headers(pool, packets.front());
    const OuterFrame outer = read_outer(headers.view(), frame_bytes, *options_.ends);
    if (outer.verdict == Outer::not_tunnel && hear(pool, packets)) return {&ReceivePathCounters::neighbour_messages};
    if (outer.verdict != Outer::ours) return {counter_of(outer.verdict)};
    // Behind the options of GENEVE the first packet may be at its end, if it was cut short: no frame begins there.
    if (outer.inner_offset + ethernet_header_bytes > packets.front().length_bytes)
        return {&ReceivePathCounters::drop_outer_malformed};
    if (outer.has_udp_checksum && !udp_checksum_is_right(pool, packets, headers.view(), outer))
        return {&ReceivePathCounters::drop_outer_checksum};
    return {nullptr, outer.inner_offset, outer.inner_bytes};
}

/// What the NIC says of it, or nothing: VXLAN's may be left unchecked (RFC 7348, 5), GENEVE's may not (RFC 8926, 3.3).
/// A NIC that does not look costs a pass over the payload there.
bool Tunnel::udp_checksum_is_right(const mem::PagePool& pool, std::span<const driver::Packet> packets,
                                   std::span<const std::byte> headers, const OuterFrame& outer) const noexcept {
    const driver::Checksum verdict = packets.back().l4_checksum;
    if (verdict != driver::Checksum::unknown || options_.ends->encapsulation == Encapsulation::vxlan)
        return verdict != driver::Checksum::bad;
    std::uint64_t sum = outer_pseudo_header_sum(headers, outer, *options_.ends);
    std::size_t skip = outer.udp_offset;
    std::size_t left = outer.inner_offset - skip + outer.inner_bytes;
    for (const driver::Packet& packet : packets) {
        const auto bytes = pool.bytes(packet.page).first(packet.length_bytes).subspan(skip);
        const std::size_t count = std::min(bytes.size(), left);
        sum = add_to_sum(sum, bytes.first(count));
        left -= count;
        skip = 0;
    }
    return folded(sum) == 0xffff;
}

/// True if the frame was a neighbour's word to us.
bool Tunnel::hear(const mem::PagePool& pool, std::span<const driver::Packet> packets) noexcept {
    if (packets.size() != 1 || packets.front().length_bytes > most_neighbour_bytes) return false;
    const HeaderCopy<most_neighbour_bytes> frame(pool, packets.front());
    const NeighbourNews news = read_neighbour(frame.view(), place_);
    if (news.answer) post(*news.answer);
    if (news.address) neighbour_.heard(*news.address, news.overrides, now_);
    return news.concerns_us;
}

}  // namespace vitrine::apps
