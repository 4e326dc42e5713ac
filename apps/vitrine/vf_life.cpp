// The VF's life as the control thread sees it: up, reset, lost, back; and the guest memory that it may read.

#include <algorithm>
#include <system_error>

#include <spdlog/spdlog.h>

#include "apps/vitrine/daemon.hpp"

namespace vitrine::apps {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds group_refresh_pause = 3s;
constexpr unsigned most_groups_a_tick = 64;

}  // namespace

void Daemon::follow_vf() {
    loop_.add(nic_->descriptor(), [this] { attend_vf(); });
    loop_.add(nic_->mailbox_descriptor(), [this] { watch_vf(); });
}

/// None of these can be helped while the device is open. Whether it comes back is then tried again and again.
void Daemon::attend_vf() {
    switch (nic_->attention()) {
        case driver::Attention::none:
            return;
        case driver::Attention::gone:
            return lose_vf("its server closed the connection");
        case driver::Attention::bus_error:
            ++vf_events_.bus_errors;
            return lose_vf("the bus reports an error that it cannot correct");
        case driver::Attention::wanted_back:
            ++vf_events_.wanted_back;
            return lose_vf("the host wants it back (unbind or unplug); released");
    }
}

/// Once a second, and when the PF has something to say.
void Daemon::watch_vf() {
    try {
        nic_->acknowledge_mailbox();
        if (needs_reset_) {
            if (retry_.due(Clock::now())) reset_vf();
            return;
        }
        switch (nic_->watch()) {
            case driver::Watch::steady:
                break;
            case driver::Watch::link_changed:
                return apply_link();
            case driver::Watch::reset_needed:
                return reset_vf();
            case driver::Watch::gone:
                return lose_vf("its registers read all ones");
        }
        learn_groups();
    } catch (const std::system_error& error) {
        distrust_vf(error);
    }
}

/// Once a second: whether the NIC does what its counters and descriptors say.
void Daemon::check_health() {
    if (!nic_ || !nic_->running() || needs_reset_) return;
    driver::RingProgress progress;
    {
        const mem::Handover::Hold hold = poller_.hold();
        progress = nic_->progress();
    }
    try {
        const driver::Troubles troubles = nic_->look(progress);
        for (std::size_t i = 0; i < troubles.size(); ++i) {
            if (!troubles[i]) continue;
            ++vf_events_.troubles[i];
            const bool reset = driver::troubles_to_reset[i];
            spdlog::warn("VF: {}{}", driver::trouble_names[i], reset ? "; resetting it" : "");
        }
        if ((troubles & driver::troubles_to_reset).any()) reset_vf();
    } catch (const std::system_error& error) {
        distrust_vf(error);
    }
}

void Daemon::learn_groups() {
    if (options_.multicast != "auto" || (options_.tunnel && options_.tunnel->ends)) return;
    GroupAddress group;
    for (const auto& pair : pairs_)
        for (unsigned heard = 0; heard < most_groups_a_tick && pair->transmit.pop_joined_group(group); ++heard)
            groups_changed_ |= learned_groups_.hear(group);
    // One message to the PF, and not each second: a guest that reports new groups all the time costs no more than that.
    if (!groups_changed_ || Clock::now() < next_group_refresh_) return;
    groups_changed_ = false;
    next_group_refresh_ = Clock::now() + group_refresh_pause;
    nic_->refresh_groups();
}

/// It did not answer as it should: the next tick resets it, unless its connection turns out to be lost.
void Daemon::distrust_vf(const std::system_error& error) {
    if (error.code() == std::errc::no_such_device) return lose_vf(error.what());  // as a BAR that faulted: for good
    retry_.failed(Clock::now());  // a PF that stays silent costs a second each time
    ++(error.code() == std::errc::timed_out ? vf_events_.mailbox_silent : vf_events_.failures);
    spdlog::warn("VF: {}; reset in {} s", error.what(), retry_.length().count());
    needs_reset_ = true;
}

/// The PF asked for it, or the conversation with it broke: everything is asked anew.
void Daemon::reset_vf() {
    needs_reset_ = true;
    {
        const mem::Handover::Hold hold = poller_.hold();
        if (nic_->running()) stop_nic();
    }
    nic_->reset();
    needs_reset_ = false;
    retry_.worked(Clock::now());
    ++vf_events_.resets;
    spdlog::info("VF: reset");
    if (nic_->identity().mac != device_.config().mac)
        spdlog::warn("VF: the PF gives another MAC address now; the guest keeps the first one");
    apply_link();
}

void Daemon::apply_link() {
    const bool up = nic_->link().up;
    if (up == nic_->running()) return;
    spdlog::info("VF: link {}", up ? std::to_string(nic_->link().speed_mbps) + " Mbit/s" : "down");
    if (!up) ++vf_events_.link_downs;
    const mem::Handover::Hold hold = poller_.hold();
    if (up && tunnel_) tunnel_->start(nic_->identity().mac);
    try {
        if (up)
            nic_->start(pairs_, poller_);
        else
            needs_reset_ = !stop_nic();
    } catch (const std::system_error& error) {
        spdlog::warn("VF: {}; resetting it", error.what());
        stop_nic();
        needs_reset_ = true;
    }
}

void Daemon::lose_vf(const std::string& why) {
    spdlog::error("VF {}: lost: {}; link down, trying again", options_.vf, why);
    ++vf_events_.losses;
    vf_events_.last_loss = why;
    loop_.remove(nic_->descriptor());
    loop_.remove(nic_->mailbox_descriptor());
    {
        const mem::Handover::Hold hold = poller_.hold();
        nic_->stop(pairs_, poller_);
        forget_mappings();
    }
    nic_.reset();
    needs_reset_ = false;
    retry_.failed(Clock::now());
}

void Daemon::retry_vf() {
    if (!retry_.due(Clock::now())) return;
    try {
        nic_ = std::make_unique<Nic>(options_, open_vf(options_, 0ms), memory_, learned_groups_);
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::result_out_of_range)
            throw;  // another IOMMU: only a new start chooses other addresses
        retry_.failed(Clock::now());
        spdlog::warn("VF {}: {}{}; next try in {} s", options_.vf, error.what(), advice_for(options_, error),
                     retry_.length().count());
        return;
    }
    spdlog::info("VF {}: back", options_.vf);
    retry_.worked(Clock::now());
    follow_vf();
    regions_changed_ = true;
    apply_link();
}

// Guest memory for the NIC, some of it a turn: the front-end's messages come in between.

bool Daemon::map_next_region() {
    if (needs_reset_) return false;
    regions_changed_ = false;
    if (!options_.guest_dma || !nic_) return false;
    for (const virtio::GuestRegion& region : device_.memory().regions()) {
        if (region.iova.raw != 0) continue;
        try {
            if (const auto iova = nic_->map_guest_further(region)) {
                const mem::Handover::Hold hold = poller_.hold();
                device_.memory().set_iova(region.guest, *iova);
            }
        } catch (const std::system_error& error) {
            spdlog::warn("guest memory of {} bytes: {}; its frames are copied", region.size_bytes, error.what());
            continue;
        }
        regions_changed_ = true;
        return true;
    }
    return false;
}

/// Those of a device that is gone went with it.
void Daemon::forget_mappings() noexcept {
    for (const virtio::GuestRegion& region : device_.memory().regions()) {
        if (region.iova.raw == 0) continue;
        memory_.iova_space.give(region.iova);
        device_.memory().set_iova(region.guest, {});
    }
}

}  // namespace vitrine::apps
