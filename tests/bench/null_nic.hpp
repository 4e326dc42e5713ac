#pragma once

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
    NullNic(std::span<driver::RxDescriptor> slots, std::uint16_t frame_bytes)
        : slots_(slots),
          written_back_(driver::RxDone{}
                            .with(driver::RxDone::done, 1)
                            .with(driver::RxDone::end_of_packet, 1)
                            .with(driver::RxDone::length_bytes, frame_bytes)
                            .raw) {}

    /// The register that the driver's doorbell writes: one behind the last armed slot.
    std::uint32_t* tail() { return &tail_; }

    /// Writes back all that is armed, both words, as the hardware does. Returns how many frames that were.
    std::size_t write_back() noexcept {
        const auto mask = static_cast<std::uint32_t>(slots_.size() - 1);
        const std::uint32_t tail = std::atomic_ref(tail_).load(std::memory_order_acquire);
        const std::size_t frames = (tail - head_) & mask;
        for (; head_ != tail; head_ = (head_ + 1) & mask) {
            std::atomic_ref(slots_[head_].page_iova).store(0, std::memory_order_relaxed);
            std::atomic_ref(slots_[head_].done).store(written_back_, std::memory_order_release);
        }
        return frames;
    }

private:
    std::span<driver::RxDescriptor> slots_;
    std::uint64_t written_back_;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
};

}  // namespace vitrine::bench
