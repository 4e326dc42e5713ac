#include "tools/vf_sim/generator_wire.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace vitrine::vf_sim {

GeneratorWire::GeneratorWire(const Options& options) : options_(options) {
    if (options.rate > 0) pace_.emplace(options.rate);
}

std::span<const std::byte> GeneratorWire::next(Time now, const mem::EthernetAddress& station) {
    if (done() || (pace_ && !pace_->ready(now))) return {};
    const auto frame = std::span(frame_).first(frame_bytes());
    if (!ready_ || made_for_ != station) {
        mem::write_test_frame(
            frame, station, source,
            {.flow = static_cast<std::uint16_t>(made_ % options_.flows), .sequence = made_ / options_.flows});
        made_for_ = station;
        ready_ = true;
    }
    return frame;
}

/// Of the next frame, without CRC. The same in each run.
std::size_t GeneratorWire::frame_bytes() const {
    const std::size_t sizes = std::max(options_.most_wire_bytes, options_.wire_bytes) - options_.wire_bytes + 1;
    const std::uint64_t scattered = (made_ * 0x9e3779b97f4a7c15) >> 32;
    return options_.wire_bytes + scattered % sizes - 4;
}

void GeneratorWire::take() {
    ++made_;
    ready_ = false;
    if (pace_) pace_->take();
}

void GeneratorWire::transmit(std::span<const std::byte> frame) {
    const auto stamp = mem::read_test_frame(frame);
    if (stamp) {
        ++good_;
        check_.accept(*stamp);
    } else if (stamp.error() == mem::StampFault::bad_crc) {
        ++bad_;
    } else {
        ++not_stamped_;
    }
}

std::optional<Time> GeneratorWire::due() const {
    if (!pace_ || done()) return std::nullopt;
    return pace_->next();
}

void GeneratorWire::report(nlohmann::json& status) const {
    status["wire"]["kind"] = "gen";
    status["tx_checked"] = {{"good", good_},
                            {"bad", bad_},
                            {"lost", check_.lost()},
                            {"out_of_order", check_.out_of_order()},
                            {"not_stamped", not_stamped_}};
}

}  // namespace vitrine::vf_sim
