#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>
#include <vitrine/port.hpp>

#include "mem/test_frame.hpp"

namespace vitrine::guest {

/// Stamped frames that a guest keeps in the device's pages before it gives them back, oldest first. Each must then
/// still be what it was: a device that uses a page too early is found out. `Pages` is the port that they came by.
template <class Pages>
class HeldFrames {
public:
    /// `most` frames are kept; `scratch_bytes` is the longest frame.
    HeldFrames(std::size_t most, std::size_t scratch_bytes) : most_(most), scratch_(scratch_bytes) {}

    /// `stamp` is what was read when the frame came; nothing if it was bad then.
    void keep(Pages& port, const vitrine::Frame& frame, const std::optional<mem::Stamp>& stamp) {
        frames_.push_back({&port, frame, stamp});
        if (frames_.size() > most_) let_go();
    }
    void let_all_go() {
        while (!frames_.empty()) let_go();
    }
    /// Frames that were not what they had been.
    std::uint64_t changed() const { return changed_; }

private:
    struct Held {
        Pages* port;
        vitrine::Frame frame;
        std::optional<mem::Stamp> stamp;
    };

    void let_go() {
        const auto& [port, frame, before] = frames_.front();
        const auto now = mem::read_test_frame(port->contiguous(frame, scratch_));
        if (before && (!now || now->flow != before->flow || now->sequence != before->sequence)) ++changed_;
        port->release(frame);
        frames_.pop_front();
    }

    std::size_t most_;
    std::vector<std::byte> scratch_;
    std::deque<Held> frames_;
    std::uint64_t changed_ = 0;
};

}  // namespace vitrine::guest
