#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "virtio/transmit_queue.hpp"

namespace vitrine::virtio {

/// A transmit ring, split or packed. Poll thread.
class TransmitRing : public TransmitKinds {
public:
    TransmitRing(const GuestMemory& memory, const DeviceRing& ring, std::uint32_t most_frame_bytes, Mode mode,
                 TransmitCounters& counters)
        : kind_(std::in_place_type<TransmitQueue>, memory, ring, most_frame_bytes, mode, counters) {}
    TransmitRing(const GuestMemory& memory, PackedDeviceRing ring, std::uint32_t most_frame_bytes, Mode mode,
                 TransmitCounters& counters)
        : kind_(std::in_place_type<PackedTransmitQueue>, memory, std::move(ring), most_frame_bytes, mode, counters) {}

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

    bool publish() noexcept {
        return std::visit([](auto& queue) { return queue.publish(); }, kind_);
    }
    bool show() noexcept {
        return std::visit([](auto& queue) { return queue.show(); }, kind_);
    }
    void owe_call() noexcept {
        std::visit([](auto& queue) { queue.owe_call(); }, kind_);
    }
    void want_kicks(bool wanted) noexcept {
        std::visit([wanted](auto& queue) { queue.want_kicks(wanted); }, kind_);
    }
    int kick_descriptor() const {
        return std::visit([](const auto& queue) { return queue.kick_descriptor(); }, kind_);
    }
    void drain_kick() noexcept {
        std::visit([](auto& queue) { queue.drain_kick(); }, kind_);
    }
    bool broken() const {
        return std::visit([](const auto& queue) { return queue.broken(); }, kind_);
    }
    std::uint32_t base() const {
        return std::visit([](const auto& queue) { return queue.base(); }, kind_);
    }
    void set_events(RingEvents events) noexcept {
        std::visit([events](auto& queue) { queue.set_events(events); }, kind_);
    }

private:
    std::variant<TransmitQueue, PackedTransmitQueue> kind_;
};

}  // namespace vitrine::virtio
