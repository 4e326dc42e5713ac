#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vitrine::guest {

/// What a device must not do on a ring, as its driver sees it. Clauses of VIRTIO 1.3, unless another is named.
enum class Violation {
    used_index_jumped,      ///< more is used than was made available (2.7.8; on a packed ring: a slot that is empty)
    never_offered,          ///< a used id that is no head, or was not made available
    used_twice,             ///< a used id that was given back before
    out_of_order,           ///< not the oldest chain: what vitrine promises without being asked (IN_ORDER, 2.7.9)
    written_too_much,       ///< more bytes than the chain has room for; on a transmit ring any byte (2.7.8.2)
    header_cut,             ///< a receive buffer used with less than a virtio_net_hdr in it (5.1.6.4)
    header_not_plain,       ///< offload fields set without GUEST_CSUM and GUEST_TSO (5.1.6.4.1)
    buffer_count_wrong,     ///< num_buffers 0 or beyond the ring, or not 1 without MRG_RXBUF (5.1.6.4.1)
    frame_in_parts,         ///< not all buffers of a frame became visible together (5.1.6.4.1)
    buffer_not_filled,      ///< a buffer before the last of a frame has room left (5.1.6.4.1)
    call_missing,           ///< buffers used without the notification that was asked for (2.7.7.2)
    base_not_used_index,    ///< GET_VRING_BASE is not what was used: a restart loses or repeats frames (design, 8)
    element_out_of_bounds,  ///< a used element whose page, offset, length or flags cannot be (VRX 4.1), or no answer
                            ///< (9.1)
    page_given_twice,       ///< a page that the driver holds already (VRX 2.3)
    flags_wrong,            ///< of a used descriptor or of event suppression, on a packed ring (2.8.4, 2.8.10)
};

inline constexpr auto violation_names = std::to_array<std::string_view>({
    "used_index_jumped",
    "never_offered",
    "used_twice",
    "out_of_order",
    "written_too_much",
    "header_cut",
    "header_not_plain",
    "buffer_count_wrong",
    "frame_in_parts",
    "buffer_not_filled",
    "call_missing",
    "base_not_used_index",
    "element_out_of_bounds",
    "page_given_twice",
    "flags_wrong",
});
static_assert(violation_names.size() == static_cast<std::size_t>(Violation::flags_wrong) + 1);

/// How often each happened.
class Violations {
public:
    void count(Violation violation) noexcept { ++counts_[static_cast<std::size_t>(violation)]; }
    void add(const Violations& others) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += others.counts_[i];
    }
    std::uint64_t of(Violation violation) const { return counts_[static_cast<std::size_t>(violation)]; }
    std::uint64_t total() const {
        std::uint64_t sum = 0;
        for (const std::uint64_t one : counts_) sum += one;
        return sum;
    }

private:
    std::array<std::uint64_t, violation_names.size()> counts_{};
};

}  // namespace vitrine::guest
