#pragma once

namespace vitrine::virtio {

/// What became of a frame for a receive ring. Unless it was delivered, none of the ring's buffers was used for it.
enum class Delivery {
    delivered,
    no_buffer,  ///< too few buffers, or credits, for this frame now
    held,       ///< pages are lent, and the guest holds as many as it may
    dropped,    ///< this ring can never hold the frame
    broken,     ///< the ring is broken or refused: nothing moves until the front-end starts it anew
};

}  // namespace vitrine::virtio
