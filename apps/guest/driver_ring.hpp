#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/indirect_tables.hpp"
#include "apps/guest/ring_config.hpp"
#include "apps/guest/split_end.hpp"
#include "mem/address.hpp"
#include "virtio/split_ring.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {

/// The driver's side of one split ring (VIRTIO 1.3, 2.7): makes buffers available, takes used ones back, and believes
/// the device nothing. It knows no frames. One thread.
///
/// Descriptors are taken from the table in a circle, so that a chain's place is known from its position and IN_ORDER
/// could be agreed (2.7.5.1). A device that uses chains out of order is counted, and its chains wait for their turn.
/// A used element that names no outstanding chain breaks the ring: nothing after it can be trusted.
class DriverRing : public SplitEnd {
public:
    using Config = RingConfig;
    using Used = UsedChain;

    /// Guest memory that a ring takes at most.
    static std::size_t memory_bytes(const Config& config);

    /// Throws std::bad_alloc when `ram` is too small, std::system_error when there is no eventfd to be had.
    DriverRing(GuestRam& ram, const Config& config);

    /// Adds a chain; `cookie` comes back with it. False: no room. The device sees it with the next publish().
    bool add(std::span<const Segment> segments, std::uint32_t cookie) noexcept;
    /// True when a chain of one descriptor fits: of one segment, or of any number in an indirect table.
    bool has_room() const noexcept { return !broken() && free_descriptors_ > 0; }
    /// Shows the device what was added: one store of avail.idx, at most one kick.
    void publish() noexcept;

    /// The next chain that the device gave back, if any.
    std::optional<Used> take_used() noexcept;
    /// True when the device has moved used.idx beyond what was taken.
    bool has_used() const noexcept;
    /// Chains that the device has.
    std::uint16_t outstanding() const { return static_cast<std::uint16_t>(published_ - used_); }

    /// Says whether the device should call when it gives a chain back. After saying yes ask has_used() again: what
    /// came in between comes without a call (2.7.14).
    void want_calls(bool wanted) noexcept;

    /// With a marker: the device will not have it, and nothing comes (docs/vrx.md, 3.4).
    bool refused() const noexcept {
        return config_.marker && virtio::vrx::Answer::in(load(used_ring_, std::memory_order_acquire)).is_refusal();
    }

private:
    /// What became of a descriptor as the head of chains.
    enum class HeadState : std::uint8_t { never_offered, offered, given_back };
    struct Chain {
        std::uint16_t descriptors;
        std::uint32_t cookie;
        std::uint32_t writable_bytes;
        bool given_back;
    };

    void write_chain(std::byte* table, std::uint16_t first, std::span<const Segment> segments, bool wraps) noexcept;
    bool device_wants_kick(std::uint16_t before) const noexcept;

    Config config_;
    IndirectTables indirect_;  ///< by head

    std::vector<Chain> chains_;                 ///< by position
    std::vector<HeadState> head_states_;        ///< by descriptor
    std::vector<std::uint16_t> head_position_;  ///< by descriptor, of offered heads
    std::uint16_t next_descriptor_ = 0;
    std::uint16_t free_descriptors_;
    std::uint16_t added_ = 0;       ///< position of the next chain to add; positions run through all 16 bits
    std::uint16_t published_ = 0;   ///< avail.idx
    std::uint16_t oldest_ = 0;      ///< position of the oldest chain whose descriptors are taken
    std::uint16_t used_ = 0;        ///< used elements taken
    std::uint16_t used_known_ = 0;  ///< used.idx as last read and checked
};

}  // namespace vitrine::guest
