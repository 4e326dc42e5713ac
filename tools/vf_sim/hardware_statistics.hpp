#pragma once

#include <cstdint>
#include <optional>

#include "driver/registers.hpp"

namespace vitrine::vf_sim {

/// The counters that the VF can read (82599 data sheet, 8.3.5.8): no read clears them, they wrap at 32 and 36 bits, and
/// a reset of the VF leaves them alone. Octets count from the destination address to the CRC.
class HardwareStatistics {
public:
    static constexpr std::uint64_t crc_bytes = 4;

    void count_received(std::uint64_t frame_bytes, bool multicast) noexcept {
        ++received_;
        received_octets_ += frame_bytes + crc_bytes;
        if (multicast) ++received_multicast_;
    }
    void count_sent(std::uint64_t frame_bytes) noexcept {
        ++sent_;
        sent_octets_ += frame_bytes + crc_bytes;
    }

    /// Nothing when there is no counter at `offset`.
    std::optional<std::uint32_t> load(std::uint32_t offset) const noexcept {
        using namespace driver;
        const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
        const auto high = [](std::uint64_t octets) { return static_cast<std::uint32_t>(octets >> 32 & 0xf); };
        switch (offset) {
            case VFGPRC::at():
                return low(received_);
            case VFGORC_LSB::at():
                return low(received_octets_);
            case VFGORC_MSB::at():
                return high(received_octets_);
            case VFMPRC::at():
                return low(received_multicast_);
            case VFGPTC::at():
                return low(sent_);
            case VFGOTC_LSB::at():
                return low(sent_octets_);
            case VFGOTC_MSB::at():
                return high(sent_octets_);
            default:
                return std::nullopt;
        }
    }

private:
    std::uint64_t received_ = 0, received_octets_ = 0, received_multicast_ = 0, sent_ = 0, sent_octets_ = 0;
};

}  // namespace vitrine::vf_sim
