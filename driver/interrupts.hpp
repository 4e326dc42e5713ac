#pragma once

#include <cstdint>

#include "driver/doorbell.hpp"
#include "driver/registers.hpp"

/// MSI-X for sleeping: a vector fires once after it was armed, then masks itself. A cause that came while the vector
/// was masked fires at once when it is armed, so a sleeper loses no frame; it may wake once for nothing.
namespace vitrine::driver {

inline constexpr unsigned queue_vector = 0;
inline constexpr unsigned mailbox_vector = 1;
inline constexpr unsigned used_vectors = 2;

/// Routes all queue causes to `queue_vector` and the mailbox to `mailbox_vector`, without delay, nothing armed. After
/// each reset. Control thread.
///
/// Auto-clear is never used without auto-mask: together with software interrupts that can lock the vector up
/// (specification update, erratum 1).
template <RegisterSpace Space>
void route_interrupts(Space& bar, unsigned queue_pairs) {
    constexpr std::uint32_t used = (1u << used_vectors) - 1;
    for (unsigned n = 0; n < VTIVAR::count; ++n) {
        VTIVAR routes{};
        if (2 * n < queue_pairs)
            routes = routes.with(VTIVAR::even_rx_vector, queue_vector)
                         .with(VTIVAR::even_rx_valid, 1)
                         .with(VTIVAR::even_tx_vector, queue_vector)
                         .with(VTIVAR::even_tx_valid, 1);
        if (2 * n + 1 < queue_pairs)
            routes = routes.with(VTIVAR::odd_rx_vector, queue_vector)
                         .with(VTIVAR::odd_rx_valid, 1)
                         .with(VTIVAR::odd_tx_vector, queue_vector)
                         .with(VTIVAR::odd_tx_valid, 1);
        write(bar, routes, n);
    }
    write(bar, VTIVAR_MISC{}.with(VTIVAR_MISC::vector, mailbox_vector).with(VTIVAR_MISC::valid, 1));
    for (unsigned vector = 0; vector < VTEITR::count; ++vector) write(bar, VTEITR{}, vector);
    write(bar, VTEIAM{}.with(VTEIAM::causes, used));
    write(bar, VTEIAC{}.with(VTEIAC::causes, used));
}

/// False after a reset behind our back: each clears the routes (82599 data sheet, 4.2).
template <RegisterSpace Space>
bool interrupts_routed(Space& bar) {
    return read<VTIVAR_MISC>(bar).get(VTIVAR_MISC::valid) != 0;
}

/// Arms the mailbox vector. Control thread, before it waits.
template <RegisterSpace Space>
void arm_mailbox_interrupt(Space& bar) {
    write(bar, VTEIMS{}.with(VTEIMS::causes, 1u << mailbox_vector));
}

/// The poll thread's way to be woken: arm, look at the rings once more, sleep on the vector's eventfd.
class QueueInterrupt {
public:
    /// `mask_set` writes VTEIMS: device.doorbell(VTEIMS::at()).
    explicit QueueInterrupt(Doorbell mask_set) : mask_set_(mask_set) {}

    /// One posted write. False when the device's socket has no room for it: do not sleep now.
    bool arm() noexcept {
        mask_set_.ring(1u << queue_vector);
        return mask_set_.settled();
    }

private:
    Doorbell mask_set_;
};

}  // namespace vitrine::driver
