#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"

namespace vitrine::vf_sim {

/// What a frame's first descriptor and its context ask of the transmit side (82599 data sheet, 7.2.4 and 7.2.5): where
/// the headers end is the context's word alone; the hardware does not parse.
struct Offload {
    enum class Transport { udp, tcp, sctp, reserved };
    static constexpr std::size_t most_header_bytes = 240;  ///< of a frame that is segmented

    std::size_t mac_bytes, ip_bytes, l4_bytes, segment_bytes;
    std::uint16_t vlan_tag;
    bool ipv4, ip_checksum, l4_checksum, segment;
    Transport transport;

    Offload(driver::TxDescriptor context, driver::TxData first) noexcept;
    std::size_t header_bytes() const noexcept { return mac_bytes + ip_bytes + l4_bytes; }
    /// What can be segmented at all; the length of the frame is not looked at.
    bool can_segment() const noexcept;

    /// Puts the checksums in. The fields hold what the driver left there: the pseudo-header's sum, and 0 for IPv4.
    /// `added` goes on top. False: the context's headers do not lie within the frame.
    bool insert_checksums(std::span<std::byte> frame, std::size_t added = 0) const noexcept;
    /// Turns the headers of the whole, with one piece of its payload behind, into a frame of its own, with checksums:
    /// lengths, IP identification, TCP sequence and flags. `number` counts from 0.
    bool finish_segment(std::span<std::byte> frame, std::size_t number, bool last) const noexcept;
};

}  // namespace vitrine::vf_sim
