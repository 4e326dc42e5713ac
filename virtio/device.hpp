#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "virtio/counters.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/net_header.hpp"
#include "virtio/receive_ring.hpp"
#include "virtio/transmit_ring.hpp"
#include "virtio/vhost_user.hpp"

namespace vitrine::virtio {

/// What the guest is offered. Fixed for the life of the VM: a front-end takes it for granted after a reconnect.
struct DeviceConfig {
    std::array<std::uint8_t, 6> mac{};
    std::uint16_t mtu = 1500;
    unsigned pairs = 1;
    bool link_up = true;
    std::uint32_t speed_mbps = NetConfig::unknown_speed;
    /// What the longest frame of the guest has beside the MTU: Ethernet header and one VLAN tag.
    std::uint32_t frame_overhead_bytes = 18;
    bool packed = false;  ///< packed rings are offered
};

/// A ring that was never enabled waits; one that was disabled may have to be drained.
enum class Enabled { not_yet, yes, no };

/// One ring as the front-end describes it, message by message. Control thread.
struct Vring {
    std::uint32_t entries = 0;
    std::optional<vhost_user::VringAddress> address;
    /// SET_VRING_BASE until the ring starts. A split ring starts at its used.idx, whatever this says.
    std::optional<std::uint32_t> base;
    mem::FileDescriptor kick;
    mem::FileDescriptor call;
    mem::FileDescriptor error;
    bool started = false;
    Enabled enabled = Enabled::not_yet;
};

/// The virtio-net device: the offer, what the connected front-end made of it, and the queues that run. Ring 2p is
/// the receive ring of pair p, ring 2p + 1 its transmit ring.
///
/// receive() and transmit() are for the poll thread. Everything else is for the control thread, and what changes
/// queues or memory is called while the poll thread stands still: Session sees to that.
class Device {
public:
    /// `config.pairs` is 1..128: SET_VRING_KICK has eight bits for the ring.
    explicit Device(const DeviceConfig& config);
    Device(const Device&) = delete;  // queues refer to our memory and counters
    Device& operator=(const Device&) = delete;

    /// Before any ring runs: drivers may ask for VRX from now on (docs/vrx.md).
    void set_lending(PageLending* lending) { lending_ = lending; }

    const DeviceConfig& config() const { return config_; }
    std::uint64_t offered_features() const;
    static std::uint64_t offered_protocol_features();
    NetConfig config_space() const;

    /// The queues of a pair; nullptr while the ring does not run.
    ReceiveRing* receive(unsigned pair) noexcept { return receive_[pair] ? &*receive_[pair] : nullptr; }
    TransmitRing* transmit(unsigned pair) noexcept { return transmit_[pair] ? &*transmit_[pair] : nullptr; }

    /// Counters live as long as the device; those of rings are the poll thread's.
    const ReceiveCounters& receive_counters(unsigned pair) const { return receive_counters_[pair]; }
    const TransmitCounters& transmit_counters(unsigned pair) const { return transmit_counters_[pair]; }
    const SessionCounters& session_counters() const { return session_counters_; }
    SessionCounters& session_counters() { return session_counters_; }

    GuestMemory& memory() { return memory_; }
    const GuestMemory& memory() const { return memory_; }

    std::uint64_t features() const { return features_; }
    /// All rings being stopped. Where they stood is forgotten when their kind changes.
    void set_features(std::uint64_t features);
    std::uint64_t protocol_features() const { return protocol_features_; }
    void set_protocol_features(std::uint64_t features) { protocol_features_ = features; }
    std::uint64_t status() const { return status_; }
    void set_status(std::uint64_t status) { status_ = status; }

    unsigned rings() const { return static_cast<unsigned>(vrings_.size()); }
    Vring& vring(unsigned ring) { return vrings_[ring]; }
    const Vring& vring(unsigned ring) const { return vrings_[ring]; }
    bool running(unsigned ring) const;
    /// Starts the ring when its state asks for it. False: it asks, but the ring is not in guest memory.
    bool start(unsigned ring);
    /// Stops the ring if it runs. What is in flight would come again at the next start: drain first.
    void stop(unsigned ring) noexcept;
    /// Passes the ring's eventfds on to its queue, if it runs.
    void refresh_events(unsigned ring) noexcept;
    /// An interrupt for the driver soon, if the ring runs.
    void owe_call(unsigned ring) noexcept;
    /// Rings are packed ones: the driver agreed to RING_PACKED.
    bool packed() const;
    /// Whether a ring of the agreed kind can have so many.
    bool valid_entries(std::uint32_t entries) const;
    /// Where the ring stands or stood: the answer to GET_VRING_BASE.
    std::uint32_t base(unsigned ring) const;
    /// Where the ring is to start, if it does not run.
    void set_base(unsigned ring, std::uint32_t base) {
        bases_[ring] = base;
        vrings_[ring].base = base;
    }

    /// Forgets the front-end, all rings being stopped.
    void disconnect();

private:
    static bool receives(unsigned ring) { return ring % 2 == 0; }
    bool should_run(unsigned ring) const;
    std::optional<RingMemory> translate(const Vring& vring) const;
    ReceiveRing::Terms terms(unsigned pair) const;
    void start_split(unsigned ring, const RingMemory& where, RingFeatures features);
    /// False: the base is beyond the ring.
    bool start_packed(unsigned ring, const RingMemory& where, RingFeatures features);
    void start_transmit(unsigned ring, auto device_ring);

    /// A packed ring of pages that stopped, and where (ReceiveRing::packed_pages_of_frame).
    struct StoppedPages {
        std::uint32_t base;
        std::uint16_t most_pages_of_frame;
    };

    DeviceConfig config_;
    GuestMemory memory_;
    std::vector<Vring> vrings_;
    std::vector<std::optional<std::uint32_t>> bases_;         ///< where each stopped, or is to start
    std::vector<std::optional<StoppedPages>> stopped_pages_;  ///< by pair
    std::uint64_t features_ = 0;
    std::uint64_t protocol_features_ = 0;
    std::uint64_t status_ = 0;
    std::vector<ReceiveCounters> receive_counters_;
    std::vector<TransmitCounters> transmit_counters_;
    SessionCounters session_counters_;
    std::vector<std::optional<ReceiveRing>> receive_;
    PageLending* lending_ = nullptr;
    std::vector<std::optional<TransmitRing>> transmit_;
};

}  // namespace vitrine::virtio
