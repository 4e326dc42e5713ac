#include "apps/guest/packed_end.hpp"

#include <atomic>
#include <bit>
#include <cassert>

namespace vitrine::guest {

using virtio::EventSuppression;

namespace {

/// Both fields at once: a position never meets the flags of another wish.
std::atomic_ref<std::uint32_t> word_of(std::byte* event_suppression) noexcept {
    return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(event_suppression));
}

}  // namespace

PackedEnd::PackedEnd(GuestRam& ram, std::uint16_t entries, bool event_index)
    : RingEnd{entries, ram.allocate(sizeof(Descriptor) * entries, virtio::descriptor_table_alignment),
              ram.allocate(sizeof(EventSuppression), virtio::event_suppression_alignment),
              ram.allocate(sizeof(EventSuppression), virtio::event_suppression_alignment)},
      slots_(reinterpret_cast<Descriptor*>(descriptor_area_)),
      event_index_(event_index) {
    assert(virtio::valid_packed_entries(entries));
}

void PackedEnd::stage(const Descriptor& descriptor) noexcept {
    assert(free_slots() > 0);
    Descriptor& slot = slots_[next_.slot];
    std::atomic_ref(slot.address).store(descriptor.address, std::memory_order_relaxed);
    std::atomic_ref(slot.length_bytes).store(descriptor.length_bytes, std::memory_order_relaxed);
    std::atomic_ref(slot.id).store(descriptor.id, std::memory_order_relaxed);
    const auto flags = static_cast<std::uint16_t>(descriptor.flags | Descriptor::available_in(next_.wrap));
    if (next_ == shown_)
        waiting_flags_ = flags;
    else
        std::atomic_ref(slot.flags).store(flags, std::memory_order_relaxed);
    next_ = next_.after(1, entries_);
}

void PackedEnd::show() noexcept {
    if (next_ == shown_) return;
    const Position before = shown_;
    shown_ = next_;
    // Release: all that was staged, and the frames behind it, is there before the first of it is available (2.8.21.1).
    std::atomic_ref(slots_[before.slot].flags).store(waiting_flags_, std::memory_order_release);
    // It must be visible before we read the device's wish, else both sides could wait for each other (2.8.21.3).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    kick(device_wants_kick(before));
}

bool PackedEnd::device_wants_kick(Position before) noexcept {
    const auto wish = std::bit_cast<EventSuppression>(word_of(device_area_).load(std::memory_order_relaxed));
    switch (wish.flags) {
        case EventSuppression::enable:
            return true;
        case EventSuppression::disable:
            return false;
        case EventSuppression::at_position:
            if (event_index_) return virtio::passes_position(Position::of(wish.position), shown_, before, entries_);
            [[fallthrough]];
        default:
            note(Violation::flags_wrong);
            return true;
    }
}

std::optional<PackedEnd::Descriptor> PackedEnd::next_used() noexcept {
    if (broken()) return std::nullopt;
    const auto descriptor = used_at(used_);
    if (!descriptor || used_ != shown_) return descriptor;
    break_ring(Violation::used_index_jumped);
    return std::nullopt;
}

std::uint16_t PackedEnd::load_flags(Position position) const noexcept {
    // Acquire: the rest of the slot, and what the device wrote, are read after the flags that cover them.
    return std::atomic_ref(slots_[position.slot].flags).load(std::memory_order_acquire);
}

std::optional<PackedEnd::Descriptor> PackedEnd::used_at(Position position) const noexcept {
    const std::uint16_t flags = load_flags(position);
    if (!Descriptor::is_used(flags, position.wrap)) return std::nullopt;
    Descriptor& slot = slots_[position.slot];
    return Descriptor{.address = std::atomic_ref(slot.address).load(std::memory_order_relaxed),
                      .length_bytes = std::atomic_ref(slot.length_bytes).load(std::memory_order_relaxed),
                      .id = std::atomic_ref(slot.id).load(std::memory_order_relaxed),
                      .flags = flags};
}

void PackedEnd::want_calls(bool wanted) noexcept {
    EventSuppression wish{.position = 0, .flags = EventSuppression::disable};
    if (wanted && event_index_)
        wish = {.position = used_.raw(), .flags = EventSuppression::at_position};
    else if (wanted)
        wish.flags = EventSuppression::enable;
    word_of(driver_area_).store(std::bit_cast<std::uint32_t>(wish), std::memory_order_relaxed);
    // The wish must be visible before the caller looks at the slot again (2.8.22).
    if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace vitrine::guest
