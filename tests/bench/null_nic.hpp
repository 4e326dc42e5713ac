#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/descriptors.hpp"

namespace vitrine::bench {

/// A NIC whose wire is always full and which moves no bytes: it finishes every descriptor that it is given, at once.
/// The counterpart of DPDK's net_null, in memory and on the poll thread; the driver sees a ring as a real NIC leaves
/// it.
class NullNic {
public:
    /// Frames of `frame_bytes`, each over as many buffers of `buffer_bytes` as it takes.
    NullNic(std::span<driver::RxDescriptor> slots, std::uint32_t frame_bytes, std::uint32_t buffer_bytes = 2048)
        : slots_(slots), frame_bytes_(frame_bytes), buffer_bytes_(buffer_bytes) {}

    /// The register that the driver's doorbell writes: one behind the last armed slot.
    std::uint32_t* tail() { return &tail_; }
    /// The queue starts anew, its heads at 0.
    void restart() noexcept { head_ = tail_ = 0; }

    /// Writes back what is armed, up to `most_frames` whole frames, both words, as the hardware does. Returns how many
    /// frames that were.
    std::size_t write_back(std::size_t most_frames = ~std::size_t{0}) noexcept {
        const auto mask = static_cast<std::uint32_t>(slots_.size() - 1);
        const std::uint32_t tail = std::atomic_ref(tail_).load(std::memory_order_acquire);
        const std::uint32_t parts = parts_of_frame();
        const std::size_t frames = std::min<std::size_t>(((tail - head_) & mask) / parts, most_frames);
        for (std::size_t frame = 0; frame < frames; ++frame) {
            for (std::uint32_t part = 1; part < parts; ++part) finish(buffer_bytes_, false);
            finish(frame_bytes_ - (parts - 1) * buffer_bytes_, true);
        }
        return frames;
    }
    std::uint32_t parts_of_frame() const { return (frame_bytes_ + buffer_bytes_ - 1) / buffer_bytes_; }
    void set_frame_bytes(std::uint32_t frame_bytes) { frame_bytes_ = frame_bytes; }

private:
    void finish(std::uint32_t length_bytes, bool last) noexcept {
        using driver::RxDone;
        const RxDone done = RxDone{}
                                .with(RxDone::done, 1)
                                .with(RxDone::end_of_packet, last ? 1 : 0)
                                .with(RxDone::length_bytes, length_bytes);
        std::atomic_ref(slots_[head_].page_iova).store(0, std::memory_order_relaxed);
        std::atomic_ref(slots_[head_].done).store(done.raw, std::memory_order_release);
        head_ = (head_ + 1) & static_cast<std::uint32_t>(slots_.size() - 1);
    }

    std::span<driver::RxDescriptor> slots_;
    std::uint32_t frame_bytes_;
    std::uint32_t buffer_bytes_;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
};

}  // namespace vitrine::bench
