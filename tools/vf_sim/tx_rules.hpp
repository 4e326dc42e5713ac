#pragma once

#include <cstddef>
#include <span>

#include "driver/descriptors.hpp"
#include "tools/vf_sim/offload.hpp"
#include "tools/vf_sim/rules.hpp"

namespace vitrine::vf_sim {

struct JudgedFrame {
    std::span<const driver::TxDescriptor> descriptors;
    const Offload& offload;
    bool context_known;                  ///< its slot was written since the queue was enabled
    std::size_t bytes;                   ///< in all buffers
    std::span<const std::byte> headers;  ///< the beginning, as far as it could be read
};

/// Holds a whole frame against the rules of sections 5.1 to 5.5. True when the queue has to stop for it.
bool judge(Rules& rules, const JudgedFrame& frame) noexcept;

}  // namespace vitrine::vf_sim
