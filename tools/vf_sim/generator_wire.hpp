#pragma once

#include <array>
#include <optional>

#include "tools/vf_sim/pace.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::vf_sim {

/// Makes stamped frames (mem/test_frame.hpp), flows in turn, and checks those that the VF sends.
class GeneratorWire final : public Wire {
public:
    struct Options {
        std::size_t wire_bytes = 64;       ///< with CRC
        std::size_t most_wire_bytes = 64;  ///< if it is more, sizes in between take turns in no order
        double rate = 0;                   ///< frames per second; 0: as fast as descriptors come
        unsigned flows = 1;
        std::optional<std::uint64_t> count;
    };
    static constexpr mem::EthernetAddress source{0x02, 0x00, 0x00, 0x00, 0x47, 0x01};

    explicit GeneratorWire(const Options& options);

    std::span<const std::byte> next(Time now, const mem::EthernetAddress& station) override;
    void take() override;
    bool waits() const override { return !pace_; }
    bool starts_when_ready() const override { return true; }
    bool done() const override { return options_.count && made_ >= *options_.count; }
    void transmit(std::span<const std::byte> frame) override;
    std::optional<Time> due() const override;
    void report(nlohmann::json& status) const override;

private:
    std::size_t frame_bytes() const;

    Options options_;
    std::optional<Pace> pace_;
    std::array<std::byte, most_frame_bytes> frame_;
    mem::EthernetAddress made_for_{};
    bool ready_ = false;  // frame_ holds the next frame
    std::uint64_t made_ = 0;
    mem::SequenceCheck check_;
    std::uint64_t good_ = 0, bad_ = 0, not_stamped_ = 0;
};

}  // namespace vitrine::vf_sim
