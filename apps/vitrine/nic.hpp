#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "apps/vitrine/iova_space.hpp"
#include "apps/vitrine/learned_groups.hpp"
#include "apps/vitrine/needs.hpp"
#include "apps/vitrine/options.hpp"
#include "apps/vitrine/poller.hpp"
#include "driver/any_device.hpp"
#include "driver/buffer_ring.hpp"
#include "driver/clock.hpp"
#include "driver/health.hpp"
#include "driver/pci.hpp"
#include "driver/rx_ring.hpp"
#include "driver/statistics.hpp"
#include "driver/tx_ring.hpp"
#include "driver/vf.hpp"
#include "mem/packet_region.hpp"
#include "mem/page_pool.hpp"
#include "mem/shared_memory.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/page_lending.hpp"

namespace vitrine::apps {

/// The memory that the NIC works in. It outlives the VF: a device that comes back finds it in place.
struct NicMemory {
    /// At addresses within `ranges`. Throws std::system_error with what is missing: huge pages (when they are a must),
    /// or the right to lock as much memory.
    NicMemory(const Options& options, const std::vector<driver::IovaRange>& ranges);

    static constexpr std::size_t rx_slots = 1024;
    static constexpr std::size_t tx_slots = 512;
    static constexpr std::size_t most_lent_pages = 1024;  ///< that the driver of one queue may hold

    /// The packet pages as the NIC gets them.
    driver::DmaMemory packet_dma() const {
        if (region) return {region->dma_bytes(), region->file(), region->layout().pages_offset};
        return {packets.mapping.bytes(), packets.file.get(), 0};
    }

    NicMemoryBytes bytes;
    IovaSpace iova_space;
    std::optional<mem::PacketRegion> region;  ///< with --rx pages: holds the pages that frames arrive in
    mem::SharedMemory packets;                ///< else these do
    mem::Iova packets_iova;
    mem::SharedMemory bounce;  ///< private: copies of what the guest sends
    mem::Iova bounce_iova;
    mem::SharedMemory rings;  ///< descriptors of all queues
    mem::Iova rings_iova;
    mem::PagePool packet_pool;
    mem::PagePool bounce_pool;
    std::optional<virtio::PageLending> lending;  ///< of the region's pages
};

/// Opens what --vf names, and looks it up anew each time. `patience`: for another process to let it go. Throws
/// std::system_error with the cause and the command that removes it.
driver::AnyDevice open_vf(const Options& options, std::chrono::milliseconds patience);

/// What may help against an error of open_vf() or of a Nic, in brackets; empty when it says so itself.
std::string advice_for(const Options& options, const std::system_error& error);

/// One VF from connect to loss. Control thread; what it does to the pairs happens inside holds of the poll thread.
class Nic {
public:
    /// Resets, asks the PF for address and queues, maps the NIC's memory. Queues stay off: see start().
    /// Throws std::system_error naming what failed.
    Nic(const Options& options, driver::AnyDevice device, NicMemory& memory, const LearnedGroups& learned_groups);
    ~Nic();

    const driver::Identity& identity() const { return vf_.identity(); }
    driver::Part part() const { return part_; }
    const char* door_name() const { return device_.door_name(); }
    driver::Link link() const { return vf_.link(); }
    const driver::FilterGrant& filters() const { return filters_; }
    bool frame_limit_granted() const { return frame_limit_granted_; }
    bool running() const { return running_; }
    /// Reads the hardware counters anew. They wrap: at least every four minutes.
    const driver::Statistics& statistics() { return last_statistics_ = statistics_.update(device_); }
    const driver::Statistics& last_statistics() const { return last_statistics_; }
    /// Sums over the queues, and over their starts, of what the receive rings saw.
    driver::RxRing::Counters rx_ring_counters() const;
    /// Inside a hold: how far the rings are.
    driver::RingProgress progress() const;
    /// What is wrong with the running queues. Once a second, with what progress() said just before.
    driver::Troubles look(driver::RingProgress progress);
    /// Readable when attention() has something to say.
    int descriptor() const { return device_.descriptor(); }
    driver::Attention attention() const { return device_.attention(); }

    /// Inside a hold: all queues on, interrupts routed, pairs attached.
    void start(std::vector<std::unique_ptr<Pair>>& pairs, Poller& poller);
    /// Inside a hold: pairs detached, queues off, pages back. False when a queue did not stop, or the device is dead:
    /// then only a reset() may come next, since the NIC may still write to pages that it was given.
    bool stop(std::vector<std::unique_ptr<Pair>>& pairs, Poller& poller) noexcept;
    /// After stop(): reset and asked anew. When that fails, the next call resets the whole function first (FLR).
    void reset();
    driver::Watch watch() {
        const bool was_reset = routes_read_back_ && !driver::interrupts_routed(device_);
        return was_reset ? driver::Watch::reset_needed : vf_.watch();
    }
    /// After a change of the learned groups. Throws std::system_error when the PF does not answer.
    void refresh_groups();

    /// Readable when the PF has something to say; then acknowledge_mailbox(), and watch().
    int mailbox_descriptor() const { return mailbox_event_.get(); }
    void acknowledge_mailbox();

    /// Inside a hold: empties one transmit queue for a guest ring that stops; frames not sent within 50 ms are rolled
    /// back to the guest.
    void drain(unsigned queue, TransmitPath& path);

    /// Inside a hold: a receive queue starts anew, with the guest's own buffers of `room_bytes`, or with pages again.
    /// What the NIC had finished by then still reaches the guest, as far as it has buffers. Throws std::system_error
    /// when the queue does not stop or start; the pair is without a NIC then.
    void receive_direct(unsigned queue, ReceivePath& path, std::uint32_t room_bytes);
    void receive_in_pages(unsigned queue, ReceivePath& path);

    /// Whether receive_direct() may ever be called: then guest memory is mapped for the NIC to write, too.
    bool can_be_direct() const { return memory_.lending && !options_.tunnel; }

    /// Guest memory for zero-copy transmit, and perhaps for direct receive, at most 1 GiB more of the
    /// region: the kernel takes a while to pin it. Its address once all of it is mapped, for the caller to store.
    /// Throws std::system_error; none of it is mapped then.
    std::optional<mem::Iova> map_guest_further(const virtio::GuestRegion& region);
    /// Also one that is mapped in part, or not at all.
    void unmap_guest(const virtio::GuestRegion& region) noexcept;

private:
    struct Queue {
        std::unique_ptr<driver::RxRing> rx;  ///< or
        std::unique_ptr<driver::BufferRing> direct;
        std::unique_ptr<driver::TxRing> tx;
    };
    struct PartlyMapped {
        mem::GuestPhys guest;
        mem::Iova iova;
        std::uint64_t done_bytes;
    };
    void forget_partly_mapped() noexcept;
    void unmap_slices(mem::Iova iova, std::uint64_t bytes) noexcept;
    void say_what_was_refused() const;
    /// That the NIC takes off and puts on; 0: none.
    std::uint16_t vlan() const { return options_.tunnel ? options_.tunnel->vlan.value_or(0) : std::uint16_t{0}; }
    void stop_receiving(unsigned queue, ReceivePath& path);
    driver::RingPlace rx_place(unsigned queue) const;
    driver::RingPlace tx_place(unsigned queue) const;
    template <class Descriptor>
    std::span<Descriptor> slots(const driver::RingPlace& place) const;

    const Options& options_;
    NicMemory& memory_;
    const LearnedGroups& learned_groups_;
    driver::SteadyClock clock_;
    driver::AnyDevice device_;
    driver::Part part_;
    driver::Vf<driver::AnyDevice, driver::SteadyClock> vf_;
    mem::EventFd queue_event_;
    mem::EventFd mailbox_event_;
    driver::FilterGrant filters_;
    driver::StatisticsReader statistics_;
    driver::Statistics last_statistics_;
    std::vector<Queue> queues_;
    driver::RxRing::Counters earlier_rings_;  // of queues that were stopped
    driver::Health health_;
    std::optional<PartlyMapped> partly_mapped_;
    bool frame_limit_granted_ = false;
    bool running_ = false;
    bool reset_failed_ = false;
    bool routes_read_back_ = false;  // else they tell nothing
};

}  // namespace vitrine::apps
