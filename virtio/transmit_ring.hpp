#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "virtio/transmit_queue.hpp"

namespace vitrine::virtio {

/// A transmit ring, split or packed. Poll thread.
class TransmitRing : public AnyQueue<TransmitQueue, PackedTransmitQueue>, public TransmitKinds {
public:
    TransmitRing(const GuestMemory& memory, const DeviceRing& ring, std::uint32_t most_frame_bytes, Mode mode,
                 TransmitCounters& counters)
        : AnyQueue(std::in_place_type<TransmitQueue>, memory, ring, most_frame_bytes, mode, counters) {}
    TransmitRing(const GuestMemory& memory, PackedDeviceRing ring, std::uint32_t most_frame_bytes, Mode mode,
                 TransmitCounters& counters)
        : AnyQueue(std::in_place_type<PackedTransmitQueue>, memory, std::move(ring), most_frame_bytes, mode, counters) {
    }

    std::optional<Frame> next() noexcept {
        return std::visit([](auto& queue) { return queue.next(); }, kind_);
    }
    void complete_oldest(std::size_t frames) noexcept {
        std::visit([frames](auto& queue) { queue.complete_oldest(frames); }, kind_);
    }
    std::size_t in_flight() const {
        return std::visit([](const auto& queue) { return queue.in_flight(); }, kind_);
    }
    void roll_back() noexcept {
        std::visit([](auto& queue) { queue.roll_back(); }, kind_);
    }
};

}  // namespace vitrine::virtio
