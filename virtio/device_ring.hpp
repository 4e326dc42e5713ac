#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "mem/address.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/ring_base.hpp"
#include "virtio/split_ring.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::virtio {

/// The device side of one split ring (VIRTIO 1.3, 2.7): indices, chains, notifications. It knows no frames.
///
/// Used strictly in order, so used.idx is all that a restart needs: the ring starts at the used.idx that it finds in
/// guest memory. Everything that the guest can write is read once into a local. Poll thread.
class DeviceRing : public RingBase {
public:
    DeviceRing(const GuestMemory& memory, RingMemory where, RingFeatures features, RingEvents events,
               RingCounters& counters) noexcept;

    /// For the extension that gives the descriptor table another meaning (virtio/vrx.hpp).
    const RingMemory& where() const { return where_; }
    /// Position of the next chain to take, and of the next to give back. They run through all 16 bits.
    std::uint16_t next() const { return next_; }
    std::uint16_t used() const { return used_; }
    std::uint32_t base() const { return used_; }

    /// How many chains wait from next() on. Looks at avail.idx only when fewer than `wanted` are known to wait, and
    /// breaks the ring when the driver claims more than it can hold.
    std::uint16_t waiting(std::uint16_t wanted) noexcept {
        if (broken()) return 0;
        const auto known = static_cast<std::uint16_t>(available_ - next_);
        if (known >= wanted) return known;
        // Acquire: heads and descriptors are read after the index that covers them.
        const std::uint16_t index = load_available_index(std::memory_order_acquire);
        const auto outstanding = static_cast<std::uint16_t>(index - used_);
        const auto taken = static_cast<std::uint16_t>(next_ - used_);
        if (outstanding > where_.entries || outstanding < taken) {
            break_ring();
            return 0;
        }
        available_ = index;
        return static_cast<std::uint16_t>(outstanding - taken);
    }
    /// True when the driver has moved avail.idx beyond what was taken.
    bool has_waiting() const noexcept { return !broken() && load_available_index(std::memory_order_acquire) != next_; }

    /// Reads the chain at `position`, which waits, and hands a private copy of each descriptor to `visit`; that
    /// returns false to refuse the chain. At most entries() descriptors are visited (2.7.5, 2.7.5.3.1).
    template <class Visit>
    Walk walk(std::uint16_t position, std::uint16_t& head, Visit&& visit) noexcept;

    /// The chain at `position`, which waits, when it is a single descriptor in the table itself: nearly every receive
    /// buffer. Nothing is no error; walk() finds out what it is.
    std::optional<Descriptor> single(std::uint16_t position, std::uint16_t& head) const noexcept {
        head = load_head(position);
        if (head >= where_.entries) return std::nullopt;
        const Descriptor descriptor = load_descriptor(where_.descriptors, head);
        if (descriptor.flags & (Descriptor::has_next | Descriptor::indirect)) return std::nullopt;
        return descriptor;
    }

    /// The first descriptor of the chain at `position`, which waits. For hints alone: nothing about it is checked.
    Descriptor peek(std::uint16_t position) const noexcept {
        return load_descriptor(where_.descriptors, load_head(position) & mask());
    }

    /// Takes `chains` that were walked, in order.
    void take(std::uint16_t chains) noexcept { next_ = static_cast<std::uint16_t>(next_ + chains); }
    /// Un-takes what was not given back.
    void roll_back() noexcept { next_ = used_; }
    /// Gives the oldest taken chain back; the driver sees it with the next publish().
    void give_back(std::uint16_t head, std::uint32_t written_bytes) noexcept {
        put(head | std::uint64_t{written_bytes} << 32);
    }
    /// The same for the eight bytes of any used element, as they will lie in memory.
    void put(std::uint64_t element) noexcept {
        static_assert(sizeof(element) == sizeof(UsedElement) && std::endian::native == std::endian::little);
        std::byte* const slot = where_.used + sizeof(RingHeader) + sizeof(element) * (used_ & mask());
        __builtin_memcpy(slot, &element, sizeof(element));  // 4-byte aligned only
        ++used_;
    }

    /// Shows the driver what was given back: one store of used.idx, at most one eventfd write. False: nothing was.
    /// Poll thread, since a write to the front-end's eventfd can block (see mem::Handover).
    bool publish() noexcept {
        const bool shown = show();
        call_if_owed();
        return shown;
    }
    /// The store alone; the interrupt follows with the next publish(). Control thread, while the poll thread stands
    /// still.
    bool show() noexcept;

    /// Says whether the driver should kick when it adds a chain. After saying yes ask has_waiting() again: what was
    /// added in between comes without a kick (2.7.10).
    void want_kicks(bool wanted) noexcept;
    /// What an earlier start of the ring, maybe by another process, answered to its marker (docs/vrx.md, 3.3).
    vrx::Answer answer() const { return vrx::Answer::in(flags_); }
    /// The driver sees it before any element that is put after it, and is called in any case.
    void set_answer(vrx::Answer answer) noexcept;
    /// Whether the driver should kick for pages that it returned. want_kicks() behind it has the fence (4.6).
    void want_returns(bool wanted) noexcept;

private:
    std::uint16_t mask() const { return static_cast<std::uint16_t>(where_.entries - 1); }

    static std::uint16_t load(std::byte* field, std::memory_order order) noexcept {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).load(order);
    }
    static void store(std::byte* field, std::uint16_t value, std::memory_order order) noexcept {
        std::atomic_ref(*reinterpret_cast<std::uint16_t*>(field)).store(value, order);
    }
    std::uint16_t load_available_index(std::memory_order order) const noexcept {
        return load(where_.available + offsetof(RingHeader, index), order);
    }
    std::uint16_t load_head(std::uint16_t position) const noexcept {
        return load(where_.available + sizeof(RingHeader) + std::size_t{2} * (position & mask()),
                    std::memory_order_relaxed);
    }
    /// One descriptor of an 8-byte aligned table, each half read once.
    static Descriptor load_descriptor(std::byte* table, std::size_t index) noexcept {
        auto* const words = reinterpret_cast<std::uint64_t*>(table + sizeof(Descriptor) * index);
        struct Halves {
            std::uint64_t low;
            std::uint64_t high;
        };
        return std::bit_cast<Descriptor>(Halves{std::atomic_ref(words[0]).load(std::memory_order_relaxed),
                                                std::atomic_ref(words[1]).load(std::memory_order_relaxed)});
    }
    void store_flags(std::uint16_t flags) noexcept {
        flags_ = flags;
        store(where_.used + offsetof(RingHeader, flags), flags, std::memory_order_relaxed);
    }
    bool driver_wants_call(std::uint16_t before) const noexcept;

    const GuestMemory& memory_;
    std::uint16_t used_;
    std::uint16_t next_;
    std::uint16_t published_;
    std::uint16_t available_;  ///< avail.idx as last read and checked
    std::uint16_t flags_;      ///< used.flags
};

template <class Visit>
DeviceRing::Walk DeviceRing::walk(std::uint16_t position, std::uint16_t& head, Visit&& visit) noexcept {
    const auto no_chain = [this] {
        break_ring();
        return Walk::broken;
    };
    head = load_head(position);
    std::byte* table = where_.descriptors;
    std::uint64_t table_entries = where_.entries;
    std::uint32_t index = head;
    bool in_indirect_table = false;
    for (unsigned steps = 0; steps < where_.entries;) {
        if (index >= table_entries) return no_chain();
        const Descriptor descriptor = load_descriptor(table, index);
        if (descriptor.flags & Descriptor::indirect) {
            // 2.7.5.3.1: negotiated, a table of whole descriptors, at the end of the chain, not inside another table.
            if (!features_.indirect || in_indirect_table || (descriptor.flags & Descriptor::has_next) ||
                descriptor.length_bytes % sizeof(Descriptor) != 0)
                return no_chain();
            const auto range = memory_.translate(mem::GuestPhys{descriptor.address}, descriptor.length_bytes);
            // MISSING: the text gives an indirect table no alignment. Drivers allocate at least 8-byte aligned.
            if (range.length_bytes != descriptor.length_bytes || std::bit_cast<std::uintptr_t>(range.host) % 8 != 0)
                return no_chain();
            table = range.host;
            table_entries = descriptor.length_bytes / sizeof(Descriptor);
            index = 0;
            in_indirect_table = true;
            continue;
        }
        ++steps;
        if (!visit(descriptor)) return Walk::refused;
        if (!(descriptor.flags & Descriptor::has_next)) return Walk::complete;
        index = descriptor.next;
    }
    return no_chain();
}

}  // namespace vitrine::virtio
