#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "apps/guest/driver_ring.hpp"
#include "apps/guest/guest_ram.hpp"
#include "mem/file_descriptor.hpp"
#include "virtio/net_header.hpp"
#include "virtio/split_ring.hpp"

namespace vitrine::guest {

/// The device's end of a ring, which can be told to break each rule.
class FakeDevice {
public:
    FakeDevice(GuestRam& ram, DriverRing& ring) : ram_(ram), ring_(ring) {}

    std::uint16_t available_index() const { return shared(ring_.driver_area() + 2).load(); }
    std::uint16_t head(std::uint16_t position) const {
        return get<std::uint16_t>(ring_.driver_area() + 4 + 2 * (position % ring_.entries()));
    }
    virtio::Descriptor descriptor(std::uint16_t index) const {
        return get<virtio::Descriptor>(ring_.descriptors() + sizeof(virtio::Descriptor) * index);
    }
    template <class T>
    T read(std::uint64_t address) const {
        return get<T>(ram_.bytes().data() + address);
    }
    std::byte* memory(std::uint64_t address) { return ram_.bytes().data() + address; }

    /// Gives a head back, true or not; publish() shows it.
    void use(std::uint32_t used_head, std::uint32_t written_bytes) {
        put(ring_.device_area() + 4 + 8 * (used_ % ring_.entries()), virtio::UsedElement{used_head, written_bytes});
        ++used_;
    }
    /// Uses the oldest chain.
    void use_next(std::uint32_t written_bytes) { use(head(used_), written_bytes); }
    void publish() { publish_index(used_); }
    void publish_index(std::uint16_t index) { shared(ring_.device_area() + 2).store(index); }
    void call() { mem::signal_event(ring_.call_descriptor()); }
    bool kicked() { return mem::drain_event(ring_.kick_descriptor()); }
    void want_kick_at(std::uint16_t event) { put(ring_.device_area() + 4 + 8 * ring_.entries(), event); }
    void set_flags(std::uint16_t flags) { put(ring_.device_area(), flags); }
    std::uint16_t driver_flags() const { return get<std::uint16_t>(ring_.driver_area()); }
    std::uint16_t call_wanted_at() const { return shared(ring_.driver_area() + 4 + 2 * ring_.entries()).load(); }

private:
    template <class T>
    static T get(const std::byte* from) {
        T value;
        std::memcpy(&value, from, sizeof(value));
        return value;
    }
    template <class T>
    static void put(const std::byte* to, const T& value) {
        std::memcpy(const_cast<std::byte*>(to), &value, sizeof(value));
    }
    /// The fields that both sides touch while the other runs.
    static std::atomic_ref<std::uint16_t> shared(const std::byte* field) {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(const_cast<std::byte*>(field)));
    }

    GuestRam& ram_;
    DriverRing& ring_;
    std::uint16_t used_ = 0;
};

}  // namespace vitrine::guest
