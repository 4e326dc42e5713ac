#pragma once

#include <cstdint>

#include "driver/registers.hpp"

namespace vitrine::driver {

/// What the NIC counted since begin(). Frames dropped for want of buffers are not among them: no VF counter has those.
/// Octets include the CRC; frames switched inside the NIC count as well.
struct Statistics {
    std::uint64_t rx_frames = 0;
    std::uint64_t rx_octets = 0;
    std::uint64_t rx_multicast_frames = 0;
    std::uint64_t tx_frames = 0;
    std::uint64_t tx_octets = 0;
};

/// Adds up hardware counters that wrap at 32 and 36 bits and that no read clears. Control thread; update() at least
/// every four minutes, since 32 bits hold 288 s of 64-byte frames at line rate.
class StatisticsReader {
public:
    /// Counts from now on. Again after each reset: that of the PF sets the counters to 0, that of the VF does not.
    template <RegisterSpace Space>
    void begin(Space& bar) {
        last_ = read_raw(bar);
    }

    template <RegisterSpace Space>
    const Statistics& update(Space& bar) {
        constexpr std::uint64_t mask_32 = 0xffff'ffff;
        constexpr std::uint64_t mask_36 = 0xf'ffff'ffff;
        const Statistics now = read_raw(bar);
        total_.rx_frames += (now.rx_frames - last_.rx_frames) & mask_32;
        total_.rx_octets += (now.rx_octets - last_.rx_octets) & mask_36;
        total_.rx_multicast_frames += (now.rx_multicast_frames - last_.rx_multicast_frames) & mask_32;
        total_.tx_frames += (now.tx_frames - last_.tx_frames) & mask_32;
        total_.tx_octets += (now.tx_octets - last_.tx_octets) & mask_36;
        last_ = now;
        return total_;
    }

private:
    template <class Low, class High, RegisterSpace Space>
    static std::uint64_t octets(Space& bar) {
        const std::uint64_t low =
            read<Low>(bar).raw;  // first: the high half belongs to it (82599 data sheet, 8.2.3.23)
        return low | std::uint64_t{read<High>(bar).get(High::octets_35_32)} << 32;
    }

    template <RegisterSpace Space>
    static Statistics read_raw(Space& bar) {
        return {.rx_frames = read<VFGPRC>(bar).raw,
                .rx_octets = octets<VFGORC_LSB, VFGORC_MSB>(bar),
                .rx_multicast_frames = read<VFMPRC>(bar).raw,
                .tx_frames = read<VFGPTC>(bar).raw,
                .tx_octets = octets<VFGOTC_LSB, VFGOTC_MSB>(bar)};
    }

    Statistics last_;
    Statistics total_;
};

}  // namespace vitrine::driver
