#pragma once

#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "mem/address.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/packed_ring.hpp"
#include "virtio/ring_base.hpp"

namespace vitrine::virtio {

/// The device side of one packed ring (VIRTIO 1.3, 2.8), with the members of DeviceRing. It knows no frames.
///
/// Used strictly in order. The ring does not say in memory how far it was used: it starts where the front-end says, and
/// a death of the process breaks it. Chains are counted as they are found: what the driver wrote of their length is
/// read then, once, and positions run through all 16 bits. Poll thread; the constructor allocates.
class PackedDeviceRing : public RingBase {
public:
    PackedDeviceRing(const GuestMemory& memory, RingMemory where, RingFeatures features, RingEvents events,
                     RingCounters& counters, PackedBase base);

    std::uint16_t next() const { return next_; }
    std::uint16_t used() const { return used_; }
    /// Where a ring that stops now has to start again: nothing that was taken and not given back counts.
    std::uint32_t base() const { return PackedBase{used_at_, used_at_}.raw(); }
    /// The same for a ring whose chains before `position` were read for what they say, and not only taken.
    std::uint32_t base_after(std::uint16_t position) const { return PackedBase{place_of(position), used_at_}.raw(); }

    /// How many chains wait from next() on. Looks for more only when fewer than `wanted` are known, and breaks the ring
    /// at a chain that is longer than what is left of it.
    std::uint16_t waiting(std::uint16_t wanted) noexcept {
        if (broken()) return 0;
        while (known() < wanted && find_chain()) {
        }
        return broken() ? 0 : known();
    }
    /// True when the driver has made more available than was taken.
    bool has_waiting() const noexcept {
        return !broken() && (known() != 0 || (slots_left() != 0 && is_available(load_flags(frontier_), frontier_)));
    }

    /// Reads the chain at `position`, which waits, and hands a private copy of each descriptor to `visit`; that
    /// returns false to refuse the chain. `head` is the driver's name for it.
    template <class Visit>
    Walk walk(std::uint16_t position, std::uint16_t& head, Visit&& visit) noexcept;
    /// The chain at `position`, which waits, when it is a single descriptor in the ring itself.
    std::optional<Descriptor> single(std::uint16_t position, std::uint16_t& head) const noexcept {
        const Chain& chain = chain_at(position);
        head = chain.id;
        if (chain.slots != 1) return std::nullopt;
        const Descriptor descriptor = load_descriptor(where_.descriptors, chain.first.slot);
        if (descriptor.flags & Descriptor::indirect) return std::nullopt;
        return descriptor;
    }
    /// The first descriptor of the chain at `position`, which waits. For hints alone: nothing about it is checked.
    Descriptor peek(std::uint16_t position) const noexcept {
        return load_descriptor(where_.descriptors, chain_at(position).first.slot);
    }

    void take(std::uint16_t chains) noexcept { next_ = static_cast<std::uint16_t>(next_ + chains); }
    void roll_back() noexcept { next_ = used_; }
    /// Gives the oldest taken chain back, by the name that the driver has for it.
    void give_back(std::uint16_t id, std::uint32_t written_bytes) noexcept {
        put_used(written_bytes, id, written_bytes != 0 ? PackedDescriptor::device_writes : std::uint16_t{0});
    }
    /// The same, with the word that VIRTIO leaves alone (docs/vrx.md, 9).
    void give_back(std::uint16_t id, std::uint32_t length_bytes, std::uint64_t address) noexcept {
        word_of(where_.descriptors, used_at_.slot, 0).store(address, std::memory_order_relaxed);
        put_used(length_bytes, id, PackedDescriptor::device_writes);
    }

    bool publish() noexcept {
        const bool shown = show();
        call_if_owed();
        return shown;
    }
    bool show() noexcept;
    /// Says whether the driver should kick when it adds a chain; ask has_waiting() again after saying yes.
    void want_kicks(bool wanted) noexcept;

private:
    /// What was found of a chain when it was.
    struct Chain {
        PackedPosition first;
        std::uint16_t slots;
        std::uint16_t id;
    };

    static bool is_available(std::uint16_t flags, PackedPosition at) {
        return PackedDescriptor::is_available(flags, at.wrap);
    }
    /// Half of a descriptor: address, or length, id and flags.
    static std::atomic_ref<std::uint64_t> word_of(std::byte* table, std::size_t slot, std::size_t half) noexcept {
        return std::atomic_ref(reinterpret_cast<std::uint64_t*>(table)[2 * slot + half]);
    }
    static std::uint16_t flags_of(std::uint64_t word) { return static_cast<std::uint16_t>(word >> 48); }
    static std::uint16_t id_of(std::uint64_t word) { return static_cast<std::uint16_t>(word >> 32); }
    /// As a split ring's: the address, length and flags of one, each read once.
    static Descriptor load_descriptor(std::byte* table, std::size_t slot) noexcept {
        const std::uint64_t word = word_of(table, slot, 1).load(std::memory_order_relaxed);
        return {.address = word_of(table, slot, 0).load(std::memory_order_relaxed),
                .length_bytes = static_cast<std::uint32_t>(word),
                .flags = flags_of(word),
                .next = 0};
    }
    std::uint16_t load_flags(PackedPosition at) const noexcept {
        return flags_of(word_of(where_.descriptors, at.slot, 1).load(std::memory_order_acquire));
    }

    std::uint16_t known() const { return static_cast<std::uint16_t>(found_ - next_); }
    /// Slots that are not part of a chain that was found and not given back.
    std::uint16_t slots_left() const {
        return static_cast<std::uint16_t>(where_.entries - frontier_.from(used_at_, where_.entries));
    }
    Chain& chain_at(std::uint16_t position) { return chains_[position & (chains_.size() - 1)]; }
    const Chain& chain_at(std::uint16_t position) const { return chains_[position & (chains_.size() - 1)]; }
    PackedPosition place_of(std::uint16_t position) const {
        return position == found_ ? frontier_ : chain_at(position).first;
    }
    bool find_chain() noexcept;
    void put_used(std::uint32_t length_bytes, std::uint16_t id, std::uint16_t flags) noexcept {
        assert(used_ != next_);
        const auto lap = static_cast<std::uint16_t>(flags | PackedDescriptor::used_in(used_at_.wrap));
        const std::uint64_t word = length_bytes | std::uint64_t{id} << 32 | std::uint64_t{lap} << 48;
        if (used_ == shown_)
            first_word_ = word;  // the driver sees nothing of the burst before this one (2.8.9, docs/vrx.md 9.3)
        else
            word_of(where_.descriptors, used_at_.slot, 1).store(word, std::memory_order_relaxed);
        used_at_ = used_at_.after(chain_at(used_).slots, where_.entries);
        ++used_;
    }
    bool driver_wants_call(PackedPosition before) const noexcept;

    const GuestMemory& memory_;
    std::vector<Chain> chains_;  ///< by position: those that were found and not given back
    PackedPosition frontier_;    ///< where the next chain will be found
    PackedPosition used_at_;     ///< where the next one is given back
    PackedPosition shown_at_;    ///< up to here the driver knows
    std::uint16_t found_ = 0;    ///< position of the next chain to find
    std::uint16_t next_ = 0;
    std::uint16_t used_ = 0;
    std::uint16_t shown_ = 0;
    std::uint64_t first_word_ = 0;  ///< of the first chain that was given back and not shown
};

template <class Visit>
RingBase::Walk PackedDeviceRing::walk(std::uint16_t position, std::uint16_t& head, Visit&& visit) noexcept {
    const auto no_chain = [this] {
        break_ring();
        return Walk::broken;
    };
    const Chain& chain = chain_at(position);
    head = chain.id;
    PackedPosition at = chain.first;
    for (unsigned i = 0; i < chain.slots; ++i, at = at.after(1, where_.entries)) {
        const Descriptor descriptor = load_descriptor(where_.descriptors, at.slot);
        if (!(descriptor.flags & Descriptor::indirect)) {
            if (!visit(descriptor)) return Walk::refused;
            continue;
        }
        // 2.8.7: negotiated, alone in its chain, a table of whole descriptors; all of them, in order.
        const std::uint64_t count = descriptor.length_bytes / sizeof(PackedDescriptor);
        if (!features_.indirect || chain.slots != 1 || count == 0 || count > most_ring_entries ||
            descriptor.length_bytes % sizeof(PackedDescriptor) != 0)
            return no_chain();
        const auto range = memory_.translate(mem::GuestPhys{descriptor.address}, descriptor.length_bytes);
        // MISSING: the text gives an indirect table no alignment. Drivers allocate at least 8-byte aligned.
        if (range.length_bytes != descriptor.length_bytes || std::bit_cast<std::uintptr_t>(range.host) % 8 != 0)
            return no_chain();
        for (std::size_t entry = 0; entry < count; ++entry) {
            const Descriptor inner = load_descriptor(range.host, entry);
            if (inner.flags & Descriptor::indirect) return no_chain();
            if (!visit(inner)) return Walk::refused;
        }
    }
    return Walk::complete;
}

}  // namespace vitrine::virtio
