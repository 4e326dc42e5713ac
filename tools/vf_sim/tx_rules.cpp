#include "tools/vf_sim/tx_rules.hpp"

#include "tools/vf_sim/checksums.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::size_t most_buffer_bytes = 16384, most_frame_bytes = 15872, least_frame_bytes = 17;
constexpr std::size_t sctp_header_bytes = 12, most_header_descriptors = 4;

std::size_t bytes_of(const TxDescriptor& descriptor) {
    return TxData{{descriptor.high}}.get(TxData::buffer_bytes);
}

bool header_in_few(const JudgedFrame& frame) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < std::min(frame.descriptors.size(), most_header_descriptors); ++i)
        bytes += bytes_of(frame.descriptors[i]);
    return frame.offload.header_bytes() <= std::min(bytes, Offload::most_header_bytes);
}

bool ip_length_is_zero(const JudgedFrame& frame) {
    const std::size_t at = frame.offload.mac_bytes + (frame.offload.ipv4 ? 2 : 4);
    return frame.headers.size() < at + 2 || get_16(frame.headers, at) == 0;
}

}  // namespace

bool judge(Rules& rules, const JudgedFrame& frame) noexcept {
    using Transport = Offload::Transport;
    bool stop = false;
    const auto expect = [&](bool kept, Rule rule) { stop |= rules.expect(kept, rule); };
    const TxData first{{frame.descriptors.front().high}};
    const Offload& offload = frame.offload;
    for (const TxDescriptor& descriptor : frame.descriptors) {
        const TxData data{{descriptor.high}};
        expect(bytes_of(descriptor) > 0, Rule::empty_buffer);
        expect(bytes_of(descriptor) <= most_buffer_bytes, Rule::buffer_too_long);
        expect(descriptor.low != 0, Rule::null_address);
        expect(data.get(TxData::report_status) <= data.get(TxData::end_of_packet), Rule::report_inside_frame);
    }
    expect(frame.bytes >= least_frame_bytes, Rule::frame_too_short);
    expect(first.get(TxData::insert_crc) != 0, Rule::no_crc);
    expect(first.get(TxData::context) <= 1, Rule::context_slot);
    const bool checked = first.get(TxData::check_context) != 0;
    expect(checked, Rule::no_context_checked);
    expect(!checked || frame.context_known, Rule::context_never_written);
    expect(!checked || !frame.context_known || offload.mac_bytes >= 14, Rule::mac_length);

    const std::size_t headers = offload.segment ? offload.header_bytes() : 0;
    expect(headers + first.get(TxData::payload_bytes) == frame.bytes, Rule::payload_length);
    expect(offload.segment || frame.bytes <= most_frame_bytes, Rule::frame_too_long);
    const bool ip_checksum = first.get(TxData::ip_checksum) != 0;
    expect(!ip_checksum || offload.ipv4, Rule::checksum_type);
    expect(!offload.l4_checksum || offload.transport != Transport::reserved, Rule::checksum_type);
    if (ip_checksum || offload.segment) expect(offload.ip_bytes >= (offload.ipv4 ? 20 : 40), Rule::ip_length);
    if (offload.l4_checksum && offload.transport == Transport::sctp)
        expect((frame.bytes - offload.mac_bytes - offload.ip_bytes - sctp_header_bytes) % 4 == 0, Rule::sctp_length);
    if (!offload.segment) return stop;

    const bool tcp = offload.transport == Transport::tcp;
    expect(offload.l4_bytes >= (tcp ? 20 : 8), Rule::l4_length);
    expect(offload.segment_bytes > 0 && headers + offload.segment_bytes <= most_frame_bytes, Rule::segment_size);
    expect(header_in_few(frame), Rule::segment_header);
    expect(offload.l4_checksum && (!offload.ipv4 || ip_checksum), Rule::segment_checksums);
    expect(ip_length_is_zero(frame), Rule::segment_ip_length);
    return stop;
}

}  // namespace vitrine::vf_sim
