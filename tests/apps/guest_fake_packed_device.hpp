#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/ring_end.hpp"
#include "mem/file_descriptor.hpp"
#include "virtio/packed_ring.hpp"

namespace vitrine::guest {

/// The device's end of a packed ring, which can be told to break each rule. It insists on the driver's, by CHECK, as it
/// may run on a thread of its own.
class FakePackedDevice {
public:
    using Descriptor = virtio::PackedDescriptor;
    using Position = virtio::PackedPosition;

    FakePackedDevice(GuestRam& ram, RingEnd& ring) : ram_(ram), ring_(ring) {}

    struct Chain {
        std::vector<Descriptor> descriptors;
        std::uint16_t id;
    };
    /// What the driver made available next, if anything.
    std::optional<Chain> next() {
        Chain chain{};
        for (bool more = true; more;) {
            const Descriptor descriptor = load(available.slot);
            const bool is_there = Descriptor::is_available(descriptor.flags, available.wrap);
            if (!is_there && chain.descriptors.empty()) return std::nullopt;
            CHECK(is_there);  // 2.8.21.1: the first of a chain comes last
            if (!is_there) return std::nullopt;
            available = available.after(1, ring_.entries());
            more = (descriptor.flags & Descriptor::has_next) != 0;
            if (more) CHECK(descriptor.id == 0);
            chain.id = descriptor.id;
            chain.descriptors.push_back(descriptor);
            chain.descriptors.back().flags &= static_cast<std::uint16_t>(~Descriptor::lap_mask);
        }
        return chain;
    }
    /// Reads all that is there.
    std::vector<Chain> read_all() {
        std::vector<Chain> chains;
        while (auto chain = next()) chains.push_back(std::move(*chain));
        return chains;
    }

    void use(const Chain& chain, std::uint32_t written_bytes) {
        write_used({.address = 0,
                    .length_bytes = written_bytes,
                    .id = chain.id,
                    .flags = written_bytes != 0 ? Descriptor::device_writes : std::uint16_t{0}},
                   static_cast<std::uint16_t>(chain.descriptors.size()));
    }
    void use_id(std::uint16_t id, std::uint32_t length_bytes = 0, std::uint16_t flags = 0) {
        write_used({.address = 0, .length_bytes = length_bytes, .id = id, .flags = flags});
    }
    /// Writes a used descriptor, true or not, and goes on `slots` behind it. Its flags are those beside the lap's.
    void write_used(const Descriptor& descriptor, std::uint16_t slots = 1) {
        write_used_at(used, descriptor);
        used = used.after(slots, ring_.entries());
    }
    void write_used_at(Position position, Descriptor descriptor) {
        descriptor.flags |= Descriptor::used_in(position.wrap);
        Descriptor& slot = slot_at(position.slot);
        std::memcpy(&slot, &descriptor, offsetof(Descriptor, flags));
        std::atomic_ref(slot.flags).store(descriptor.flags, std::memory_order_release);
    }

    template <class T>
    T read(std::uint64_t address) const {
        T value;
        std::memcpy(&value, ram_.bytes().data() + address, sizeof(value));
        return value;
    }
    std::byte* memory(std::uint64_t address) { return ram_.bytes().data() + address; }

    void call() { mem::signal_event(ring_.call_descriptor()); }
    /// As the driver wants it, of what was used since `before` (VIRTIO 1.3, 2.8.10).
    void call_if_wanted(Position before) {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const auto [position, flags] = driver_wish();
        if (flags == virtio::EventSuppression::enable ||
            (flags == virtio::EventSuppression::at_position &&
             virtio::passes_position(Position::of(position), used, before, ring_.entries())))
            call();
    }
    bool kicked() { return mem::drain_event(ring_.kick_descriptor()); }
    void wish(std::uint16_t flags, Position position = {}) {
        word(ring_.device_area()).store(std::bit_cast<std::uint32_t>(virtio::EventSuppression{position.raw(), flags}));
    }
    virtio::EventSuppression driver_wish() const {
        return std::bit_cast<virtio::EventSuppression>(word(ring_.driver_area()).load());
    }
    std::uint32_t base() const { return virtio::PackedBase{available, used}.raw(); }

    Position available;  ///< of the next descriptor to read
    Position used;       ///< of the next one to write over

private:
    Descriptor& slot_at(std::uint16_t slot) const {
        return reinterpret_cast<Descriptor*>(const_cast<std::byte*>(ring_.descriptors()))[slot];
    }
    /// The rest is behind the flags, and may be half-written before them.
    Descriptor load(std::uint16_t slot) const {
        Descriptor& from = slot_at(slot);
        const std::uint16_t flags = std::atomic_ref(from.flags).load(std::memory_order_acquire);
        return {.address = std::atomic_ref(from.address).load(std::memory_order_relaxed),
                .length_bytes = std::atomic_ref(from.length_bytes).load(std::memory_order_relaxed),
                .id = std::atomic_ref(from.id).load(std::memory_order_relaxed),
                .flags = flags};
    }
    static std::atomic_ref<std::uint32_t> word(const std::byte* event_suppression) {
        return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(const_cast<std::byte*>(event_suppression)));
    }

    GuestRam& ram_;
    RingEnd& ring_;
};

}  // namespace vitrine::guest
