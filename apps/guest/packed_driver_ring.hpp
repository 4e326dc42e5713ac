#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/indirect_tables.hpp"
#include "apps/guest/packed_end.hpp"
#include "apps/guest/ring_config.hpp"
#include "mem/address.hpp"

namespace vitrine::guest {

/// The driver's side of one packed ring (VIRTIO 1.3, 2.8), as DriverRing is of a split one: it believes the device
/// nothing, and knows no frames. One thread.
///
/// Ids are given out in a circle. A device that uses chains out of order is counted, and slots and ids of its chains
/// wait for their turn. A used id that names no outstanding chain breaks the ring: nothing after it can be trusted.
class PackedDriverRing : public PackedEnd {
public:
    using Config = RingConfig;
    using Used = UsedChain;

    /// Guest memory that a ring takes at most.
    static std::size_t memory_bytes(const Config& config);
    /// Throws std::bad_alloc when `ram` is too small, std::system_error when there is no eventfd to be had.
    PackedDriverRing(GuestRam& ram, const Config& config);

    /// Adds a chain; `cookie` comes back with it. False: no room. The device sees it with the next publish().
    bool add(std::span<const Segment> segments, std::uint32_t cookie) noexcept;
    /// True when a chain of one descriptor fits: of one segment, or of any number in an indirect table.
    bool has_room() const noexcept { return !broken() && usable_slots_ > 0; }
    /// Shows the device what was added: one store of flags, at most one kick.
    void publish() noexcept;
    /// The next chain that the device gave back, if any.
    std::optional<Used> take_used() noexcept;
    /// Chains that the device has.
    std::uint16_t outstanding() const { return outstanding_; }

    /// Only a marker can be refused, and OFFSET is for split rings.
    static constexpr bool refused() { return false; }

    /// The device has read all that was available up to what it uses next, and no more.
    bool stands_at(std::uint32_t base) const noexcept override;

private:
    /// By id.
    struct Chain {
        enum class State : std::uint8_t { never_offered, offered, given_back };
        std::uint16_t slots = 0;
        State state = State::never_offered;
        std::uint32_t cookie = 0;
        std::uint32_t writable_bytes = 0;
    };

    void stage_indirect(std::span<const Segment> segments, std::uint16_t id) noexcept;
    void stage_chain(std::span<const Segment> segments, std::uint16_t id) noexcept;
    std::uint16_t after(std::uint16_t id) const {
        return id + 1 == entries_ ? std::uint16_t{0} : static_cast<std::uint16_t>(id + 1);
    }
    /// True when the device has seen the chain and not given it back. If not, the ring breaks.
    bool is_outstanding(std::uint16_t id) noexcept;
    /// Chains between the oldest one and this.
    std::uint16_t age(std::uint16_t id) const {
        return static_cast<std::uint16_t>(id >= oldest_id_ ? id - oldest_id_ : id - oldest_id_ + entries_);
    }

    Config config_;
    IndirectTables indirect_;  ///< by id

    std::vector<Chain> chains_;
    std::uint16_t next_id_ = 0;
    std::uint16_t oldest_id_ = 0;     ///< of the oldest chain whose slots are taken
    std::uint16_t shown_chains_ = 0;  ///< chains from the oldest on that the device sees, some perhaps given back
    std::uint16_t added_chains_ = 0;  ///< behind them, those that it does not
    std::uint16_t outstanding_ = 0;
    std::uint16_t usable_slots_;  ///< fewer than PackedEnd counts, when chains wait for their turn
};

}  // namespace vitrine::guest
