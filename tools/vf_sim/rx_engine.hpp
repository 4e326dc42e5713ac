#pragma once

#include <cstdint>
#include <optional>

#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/frame_view.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/rss.hpp"

namespace vitrine::vf_sim {

/// Writes one accepted frame into a receive ring: the buffers first, then each descriptor with one release store of its
/// second word, in ring order (82599 data sheet, 7.1.5 to 7.1.10).
///
/// A frame gets all of its buffers or none. MISSING: what silicon does when the ring runs dry inside a frame.
/// What is posted in the second word is ignored: Linux leaves old status there.
/// MODEL: one-buffer descriptors only (header split is withdrawn on the 82599); no checksum verdicts (IPCS, L4CS and
/// their errors stay 0); a descriptor is written back at once.
/// `loopback`: it came from another function of the port. `hide_tag`: the tag is the PF's and leaves without a trace.
RxOutcome write_frame(QueueRegisters& queue, DmaMap& memory, const FrameView& frame, std::optional<Rss::Hash> hash,
                      bool loopback, bool hide_tag) noexcept;

}  // namespace vitrine::vf_sim
