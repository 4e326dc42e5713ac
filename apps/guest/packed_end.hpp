#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/ring_end.hpp"
#include "virtio/packed_ring.hpp"

namespace vitrine::guest {

/// The driver's end of a packed ring (VIRTIO 1.3, 2.8), whatever its descriptors mean: they are written to the slots in
/// order, and the device writes over them in order. Descriptor ring, driver and device event suppression.
class PackedEnd : public RingEnd {
public:
    /// What was not used is available again: of a ring that has just been zeroed that is its start.
    std::uint32_t base() const noexcept override { return virtio::PackedBase{used_, used_}.raw(); }
    /// True when the device has used the slot that comes next.
    bool has_used() const noexcept { return !broken() && is_used(used_); }
    /// Says whether the device should call when it uses the next slot. After saying yes ask has_used() again: what came
    /// in between comes without a call.
    void want_calls(bool wanted) noexcept;

protected:
    using Descriptor = virtio::PackedDescriptor;
    using Position = virtio::PackedPosition;

    /// Guest memory that the parts of a ring take at most.
    static std::size_t ring_bytes(std::size_t entries) {
        return sizeof(Descriptor) * entries + 2 * sizeof(virtio::EventSuppression) +
               2 * virtio::descriptor_table_alignment;
    }
    /// Throws std::bad_alloc when `ram` is too small, std::system_error when there is no eventfd to be had.
    PackedEnd(GuestRam& ram, std::uint16_t entries, bool event_index);

    /// Writes the next slot, which must be free, with the flags of its lap. The flags of the first one wait for show():
    /// the device reads in order, and so sees none of what is behind.
    void stage(const Descriptor& descriptor) noexcept;
    /// Shows the device what was staged: one store of flags, at most one kick.
    void show() noexcept;

    /// The slot that comes next as the device wrote it, if it has. Breaks the ring when nothing was there to be used.
    std::optional<Descriptor> next_used() noexcept;
    /// Goes on behind what next_used() said.
    void pass(std::uint16_t slots) noexcept { used_ = used_.after(slots, entries_); }

    bool is_used(Position position) const noexcept { return Descriptor::is_used(load_flags(position), position.wrap); }
    /// The slot as the device wrote it, if it has used it in this lap.
    std::optional<Descriptor> used_at(Position position) const noexcept;

    /// The next slot that the device may write over, and the first that it does not see yet.
    Position used_position() const { return used_; }
    Position shown_position() const { return shown_; }
    /// Slots that may be staged: neither staged nor the device's.
    std::uint16_t free_slots() const { return static_cast<std::uint16_t>(entries_ - next_.from(used_, entries_)); }

private:
    std::uint16_t load_flags(Position position) const noexcept;
    bool device_wants_kick(Position before) noexcept;

    Descriptor* const slots_;
    const bool event_index_;
    Position next_;                    ///< to stage
    Position shown_;                   ///< the first slot that is staged and not shown
    Position used_;                    ///< the first slot that is not known to be used
    std::uint16_t waiting_flags_ = 0;  ///< of the first slot that is staged and not shown
};

}  // namespace vitrine::guest
