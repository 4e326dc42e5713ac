#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace vitrine::vf_sim {

/// What a driver must not do, in the order of the rules table in docs/vf_sim.md.
enum class Rule : std::size_t {
    bus_master,
    not_programmed,
    mailbox_without_lock,
    request_without_lock,
    signal_with_lock,
    null_address,
    odd_address,
    posted_twice,
    buffer_size,
    descriptor_split,
    ring_alignment,
    ring_length,
    written_while_enabled,
    early_tail,
    wild_tail,
    overfull,
    changed_descriptor,
    no_longest_frame,
    legacy_descriptor,
    descriptor_type,
    buffer_too_long,
    payload_length,
    context_slot,
    context_flags,
    mac_length,
    frame_too_short,
    too_many_descriptors,
    frame_too_long,
    empty_buffer,
    report_inside_frame,
    tail_inside_frame,
    context_before_tail,
    too_many_contexts,
    no_crc,
    no_context_checked,
    context_never_written,
    ip_length,
    l4_length,
    checksum_type,
    sctp_length,
    segment_size,
    segment_header,
    segment_checksums,
    segment_ip_length,
    changed_buffer,
    thresholds,
    head_write_back,
    before_reset,
    unmapped_while_enabled,
    freed_too_early,
    bad_dma,
    auto_clear,
    count
};

struct RuleText {
    const char* name;  ///< begins with the section of the rules table
    bool malicious;    ///< an X550 with malicious-driver detection stops the queue for it
};

inline constexpr std::array<RuleText, static_cast<std::size_t>(Rule::count)> rule_texts{{
    {"1.3 queue enabled without Bus Master", false},
    {"2.6 register not programmed after a reset", false},
    {"3.2 mailbox memory written without VFU", false},
    {"3.2 request without VFU", false},
    {"3.2 REQ or ACK with VFU held", false},
    {"4.1 buffer at IOVA 0", false},
    {"4.1 buffer at an odd address", false},
    {"4.1 buffer posted twice", false},
    {"4.2 BSIZEPACKET is not 1 to 16", true},
    {"4.2 descriptors other than advanced with one buffer", false},
    {"4.4 ring base not aligned to 128", false},
    {"4.4 ring length 0 or no multiple of 128", true},
    {"4.4 register written while the queue is enabled", true},
    {"4.4 tail is not head at ENABLE (written too early, or left over)", false},
    {"4.4 tail beyond the ring", false},
    {"4.4 ring overfull: tail reaches head", false},
    {"4.4 descriptor changed before its write-back", false},
    {"4.6 receive enabled without SET_LPE", false},
    {"5.1 legacy descriptor", true},
    {"5.1 descriptor type", true},
    {"5.1 DTALEN above 16 KiB", true},
    {"5.1 PAYLEN is not what the buffers hold", true},
    {"5.1 context slot above 1", true},
    {"5.2 context with EOP or RS", false},
    {"5.2 MACLEN below 14", true},
    {"5.3 frame shorter than 17 bytes", false},
    {"5.3 too many descriptors in a frame", true},
    {"5.3 frame longer than 15.5 KiB", true},
    {"5.3 DTALEN 0 inside a frame", true},
    {"5.3 RS without EOP", false},
    {"5.3 tail inside a frame", true},
    {"5.3 context as the last before the tail", false},
    {"5.3 four contexts in a row", true},
    {"5.3 IFCS missing", false},
    {"5.4 no context checked (CC)", true},
    {"5.4 context that was never written", true},
    {"5.5 IPLEN below the IP header", true},
    {"5.5 L4LEN below the L4 header", true},
    {"5.5 checksum of a type that the context does not name", false},
    {"5.5 SCTP payload no multiple of 4", false},
    {"5.5 MSS 0 or beyond a frame", true},
    {"5.5 segmented header above 240 bytes or 4 descriptors", true},
    {"5.5 segmentation without its checksums", false},
    {"5.5 segmentation with an IP length that is not 0", false},
    {"5.6 buffer changed before its write-back", false},
    {"5.6 thresholds", false},
    {"5.6 head write-back with WTHRESH", false},
    {"6.1 queue enabled before RESET", false},
    {"6.3 memory unmapped under an enabled queue", false},
    {"6.3 memory unmapped within 100 us of the receive queue", false},
    {"6.6 DMA outside of what is mapped", true},
    {"6.6 auto-clear without auto-mask", false},
}};

/// Counts broken rules. Strict mode looks for all of them; malicious-driver detection for those that it stops for.
///
/// MODEL: the data sheet names the detector's causes, not its exact bounds: those are the rules' own.
class Rules {
public:
    using Counts = std::array<std::uint64_t, static_cast<std::size_t>(Rule::count)>;

    Rules(bool strict, bool detect) : strict_(strict), detect_(detect) {}
    bool strict() const noexcept { return strict_; }
    bool active() const noexcept { return strict_ || detect_; }

    /// Notes it. True when the queue has to stop for it.
    bool broken(Rule rule) noexcept {
        const auto index = static_cast<std::size_t>(rule);
        if (strict_) ++violations_[index];
        const bool stops = detect_ && rule_texts[index].malicious;
        if (stops) ++stops_[index];
        return stops;
    }
    /// Notes it unless `kept`.
    bool expect(bool kept, Rule rule) noexcept { return !kept && broken(rule); }

    const Counts& violations() const noexcept { return violations_; }
    const Counts& stops() const noexcept { return stops_; }

private:
    bool strict_, detect_;
    Counts violations_{}, stops_{};
};

}  // namespace vitrine::vf_sim
