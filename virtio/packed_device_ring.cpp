#include "virtio/packed_device_ring.hpp"

namespace vitrine::virtio {

PackedDeviceRing::PackedDeviceRing(const GuestMemory& memory, RingMemory where, RingFeatures features,
                                   RingEvents events, RingCounters& counters, PackedBase base)
    : RingBase(where, features, events, counters),
      memory_(memory),
      chains_(std::bit_ceil<std::size_t>(where.entries)),
      frontier_(base.available),
      used_at_(base.used),
      shown_at_(base.used) {
    assert(base.available.slot < where.entries && base.used.slot < where.entries);
    // What was read before an earlier stop, one slot each (docs/vrx.md, 9.5), waits to be given back.
    for (PackedPosition at = used_at_; at != frontier_; at = at.after(1, where.entries))
        chain_at(found_++) = {at, 1, 0};
}

bool PackedDeviceRing::find_chain() noexcept {
    const std::uint16_t left = slots_left();
    if (left == 0) return false;
    // Acquire: the rest of the chain is read after the flags that make it available.
    std::uint64_t word = word_of(where_.descriptors, frontier_.slot, 1).load(std::memory_order_acquire);
    if (!is_available(flags_of(word), frontier_)) return false;
    std::uint16_t slots = 1;
    for (PackedPosition at = frontier_; flags_of(word) & PackedDescriptor::has_next; ++slots) {
        if (slots == left) {
            break_ring();
            return false;
        }
        at = at.after(1, where_.entries);
        word = word_of(where_.descriptors, at.slot, 1).load(std::memory_order_relaxed);
    }
    chain_at(found_++) = {frontier_, slots, id_of(word)};
    frontier_ = frontier_.after(slots, where_.entries);
    return true;
}

bool PackedDeviceRing::show() noexcept {
    if (used_ == shown_) return false;
    const PackedPosition before = shown_at_;
    // Release: what the later ones say, and the frames behind them, are there before the first one says so.
    word_of(where_.descriptors, before.slot, 1).store(first_word_, std::memory_order_release);
    shown_ = used_;
    shown_at_ = used_at_;
    // It must be visible before we read the driver's wish, else both sides could wait for each other (2.8.10).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    note_shown(driver_wants_call(before));
    return true;
}

bool PackedDeviceRing::driver_wants_call(PackedPosition before) const noexcept {
    auto* const area = reinterpret_cast<std::uint32_t*>(where_.available);
    const auto wish = std::bit_cast<EventSuppression>(std::atomic_ref(*area).load(std::memory_order_relaxed));
    if (wish.flags != EventSuppression::at_position || !features_.event_index)
        return wish.flags != EventSuppression::disable;
    return passes_position(PackedPosition::of(wish.position), used_at_, before, where_.entries);
}

void PackedDeviceRing::want_kicks(bool wanted) noexcept {
    const EventSuppression wish{.position = 0, .flags = wanted ? EventSuppression::enable : EventSuppression::disable};
    auto* const area = reinterpret_cast<std::uint32_t*>(where_.used);
    std::atomic_ref(*area).store(std::bit_cast<std::uint32_t>(wish), std::memory_order_relaxed);
    // The wish must be visible before the caller looks for chains again (2.8.10).
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace vitrine::virtio
