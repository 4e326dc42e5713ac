#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/rx_slots.hpp"
#include "mem/page_pool.hpp"

namespace vitrine::driver {

/// One buffer of a received frame; the caller owns the page (Holder::device).
struct Packet : Finished {
    mem::PageId page;
};

/// What the NIC may write into a page, in the units of VFSRRCTL: all of it up to 10 KiB, which holds a jumbo frame.
constexpr std::uint32_t packet_buffer_kib(std::size_t page_bytes) {
    return static_cast<std::uint32_t>(page_bytes / 1024 < 10 ? page_bytes / 1024 : 10);
}

/// A receive queue whose buffers are pages of a pool. All slots but one are armed with a page each; the spare one,
/// just behind the next to finish, keeps tail and head apart, which the NIC would read as "no buffers".
///
/// Poll thread only; fill() and release() while it stands still and the queue is enabled / disabled.
class RxRing : public RxSlots {
public:
    RxRing(std::span<RxDescriptor> slots, Doorbell tail, mem::PagePool& pool);

    /// Arms the ring from slot 0, after the queue was enabled (heads at 0, and the NIC takes no tail before).
    /// Throws std::system_error (ENOMEM) when the pool has fewer free pages than the ring has slots.
    void fill();

    /// Moves finished packets into `out`, oldest first, and arms one fresh page for each. Stops early when the NIC has
    /// nothing more or the pool is empty. Writes the tail at most once.
    std::size_t receive(std::span<Packet> out) noexcept;

    /// Gives the pages of a disabled queue back to the pool. Returns how many finished frames were lost with them.
    std::size_t release() noexcept;

    /// Pages that the NIC holds: all slots but the spare one, from fill() to release().
    std::size_t armed() const noexcept { return filled_ ? slots_.size() - 1 : 0; }

private:
    void arm(std::uint32_t slot) noexcept;

    std::vector<mem::PageId> pages_;  // beside the ring: the NIC overwrites addresses
    mem::PagePool& pool_;
    bool filled_ = false;
};

}  // namespace vitrine::driver
