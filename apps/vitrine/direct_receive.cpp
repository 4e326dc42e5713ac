// When a ring's frames are written into the guest's own buffers by the NIC, and when no longer. Rings begin by copy:
// pinning guest memory takes its time, and a restart must not wait for it.

#include <algorithm>
#include <system_error>

#include <spdlog/spdlog.h>

#include "apps/vitrine/daemon.hpp"

namespace vitrine::apps {

/// Once a second.
void Daemon::begin_direct() {
    if (!nic_ || !nic_->can_be_direct() || !nic_->running() || needs_reset_) return;
    const mem::Handover::Hold hold = poller_.hold();
    const auto offset_ring = [this](unsigned pair) -> virtio::OffsetQueue* {
        virtio::ReceiveRing* const ring = device_.receive(pair);
        return ring != nullptr && !ring->broken() ? ring->offset() : nullptr;
    };
    const auto& regions = device_.memory().regions();
    const bool mapped = std::ranges::all_of(regions, [](const auto& region) { return region.iova.raw != 0; });
    bool all_run = true;  // or one ring would get the frames of several NIC queues
    for (unsigned pair = 0; pair < pairs_.size(); ++pair) all_run &= device_.running(2 * pair);
    for (unsigned pair = 0; pair < pairs_.size(); ++pair) {
        const virtio::OffsetQueue* const ring = offset_ring(pair);
        if (ring == nullptr || pairs_[pair]->receive.is_direct()) continue;
        if (!options_.guest_dma || !mapped || !all_run) {
            ++(!options_.guest_dma ? direct_events_.copied_no_guest_dma
               : !mapped           ? direct_events_.copied_not_mapped
                                   : direct_events_.copied_fewer_rings);
            continue;
        }
        try {
            nic_->receive_direct(pair, pairs_[pair]->receive, ring->room_bytes());
            ++direct_events_.begun;
        } catch (const std::system_error& error) {
            return give_up_direct(error);
        }
    }
}

/// Inside a hold, before a ring stops or guest memory changes. All rings: each alone would be too many cases.
void Daemon::end_direct() noexcept {
    if (!nic_ || !nic_->running()) return;
    for (unsigned pair = 0; pair < pairs_.size(); ++pair) {
        if (!pairs_[pair]->receive.is_direct()) continue;
        try {
            nic_->receive_in_pages(pair, pairs_[pair]->receive);
            ++direct_events_.ended;
        } catch (const std::system_error& error) {
            return give_up_direct(error);
        }
    }
}

void Daemon::give_up_direct(const std::system_error& error) noexcept {
    spdlog::warn("VF: {}; resetting it", error.what());
    needs_reset_ = true;
    stop_nic();
}

/// Inside a hold. A NIC that does not stop could go on writing to buffers that the guest has back soon: it loses all
/// sight of guest memory until it was reset.
bool Daemon::stop_nic() noexcept {
    if (nic_->stop(pairs_, poller_)) return true;
    for (const virtio::GuestRegion& region : device_.memory().regions()) {
        if (region.iova.raw == 0) continue;
        nic_->unmap_guest(region);
        device_.memory().set_iova(region.guest, {});
        regions_changed_ = true;
    }
    return false;
}

}  // namespace vitrine::apps
