#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"
#include "tools/vf_sim/frame_view.hpp"
#include "tools/vf_sim/part.hpp"

namespace vitrine::vf_sim {

/// Headers are big-endian.
std::uint16_t get_16(std::span<const std::byte> bytes, std::size_t offset) noexcept;
void put_16(std::span<std::byte> bytes, std::size_t offset, std::size_t value) noexcept;

/// The Internet's sum of 16-bit words (RFC 1071), folded and not inverted; the last odd byte counts as a high half.
std::uint16_t internet_sum(std::span<const std::byte> bytes, std::uint32_t start = 0) noexcept;
/// CRC-32c of an SCTP packet whose checksum field counts as 0 (RFC 4960, appendix B), as the field holds it.
std::uint32_t sctp_checksum(std::span<const std::byte> packet) noexcept;

/// What the NIC says of a received frame's checksums: IPCS, L4CS, UDPCS, UDPV, and the errors that go with them
/// (82599 data sheet, 7.1.11).
///
/// MODEL: the false IP errors of some fragments (82599 specification update, erratum 66) do not happen. UDPV is there,
/// the fragment's own sum is not: the PF has the RSS hash in its place.
driver::RxDone checksum_verdict(const FrameView& frame, Part part) noexcept;

}  // namespace vitrine::vf_sim
