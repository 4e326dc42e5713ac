#pragma once

#include <cstdint>
#include <optional>

#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/faults.hpp"
#include "tools/vf_sim/frame_view.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/rss.hpp"

namespace vitrine::vf_sim {

/// Writes one accepted frame into a receive ring: the buffers first, then each descriptor with one release store of its
/// second word, in ring order (82599 data sheet, 7.1.5 to 7.1.10).
///
/// A frame gets all of its buffers or none. MISSING: what silicon does when the ring runs dry inside a frame.
/// What is posted in the second word is ignored: Linux leaves old status there.
/// MODEL: one-buffer descriptors only (header split is withdrawn on the 82599); a descriptor is written back at once.
struct RxWrite {
    std::optional<Rss::Hash> hash;
    driver::RxDone verdict{};        ///< bits of the checksums, and of where the frame comes from
    bool hide_tag = false;           ///< the tag is the PF's and leaves without a trace
    const Faults* faults = nullptr;  ///< that spoil write-backs; then these go to `spoiled`
    SpoiledWriteBacks* spoiled = nullptr;
};
RxOutcome write_frame(QueueRegisters& queue, DmaMap& memory, const FrameView& frame, const RxWrite& write) noexcept;

}  // namespace vitrine::vf_sim
