#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <unordered_map>

/// Frames that carry their own proof: made by the simulated wire and by vitrine-guest, checked at the other end.
namespace vitrine::mem {

using EthernetAddress = std::array<std::uint8_t, 6>;

/// Shortest frame that holds the stamp, and shortest on the wire without CRC: Ethernet, IPv4, UDP and 18 bytes.
inline constexpr std::size_t least_test_frame_bytes = 60;
/// The stamp is le32 magic, le16 flow, le64 sequence, le32 CRC-32 of the whole frame with the CRC field as 0.
inline constexpr std::size_t stamp_offset = 42;

struct Stamp {
    std::uint16_t flow;
    std::uint64_t sequence;  ///< counts from 0 in each flow
};

enum class StampFault { too_short, not_stamped, bad_crc };

/// Fills `frame` (60 bytes or more, CRC not included) with a valid IPv4/UDP frame: UDP ports 10000 + flow and 9, UDP
/// checksum 0, a stamp, and a filling that differs from frame to frame.
void write_test_frame(std::span<std::byte> frame, const EthernetAddress& destination, const EthernetAddress& source,
                      Stamp stamp);

/// Checks the whole frame.
std::expected<Stamp, StampFault> read_test_frame(std::span<const std::byte> frame);

/// Follows the sequence of every flow.
class SequenceCheck {
public:
    void accept(Stamp stamp);
    std::uint64_t in_order() const { return in_order_; }
    std::uint64_t lost() const { return lost_; }                  ///< skipped; what comes late stays counted here
    std::uint64_t out_of_order() const { return out_of_order_; }  ///< late or twice

private:
    std::unordered_map<std::uint16_t, std::uint64_t> next_;
    std::uint64_t in_order_ = 0;
    std::uint64_t lost_ = 0;
    std::uint64_t out_of_order_ = 0;
};

}  // namespace vitrine::mem
