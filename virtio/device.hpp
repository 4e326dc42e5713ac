#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "virtio/counters.hpp"
#include "virtio/guest_memory.hpp"
#include "virtio/net_header.hpp"
#include "virtio/receive_queue.hpp"
#include "virtio/transmit_queue.hpp"
#include "virtio/vhost_user.hpp"

namespace vitrine::virtio {

/// What the guest is offered. Fixed for the life of the VM: a front-end takes it for granted after a reconnect.
struct DeviceConfig {
    std::array<std::uint8_t, 6> mac;
    std::uint16_t mtu = 1500;
    unsigned pairs = 1;
    bool link_up = true;
    std::uint32_t speed_mbps = NetConfig::unknown_speed;
};

/// One ring as the front-end describes it, message by message. Control thread.
struct Vring {
    std::uint32_t entries = 0;
    std::optional<vhost_user::VringAddress> address;
    std::uint16_t base = 0;  ///< SET_VRING_BASE; noted, not used: a ring starts at used.idx
    mem::FileDescriptor kick;
    mem::FileDescriptor call;
    mem::FileDescriptor error;
    bool started = false;
    bool enabled = false;
};

/// The virtio-net device: the offer, what the connected front-end made of it, and the queues that run.
///
/// receive() and transmit() are the poll thread's; everything else is the control thread's, and whatever changes a
/// queue or memory is called while the poll thread stands still (Session sees to that).
class Device {
public:
    explicit Device(const DeviceConfig& config);

    const DeviceConfig& config() const { return config_; }
    std::uint64_t offered_features() const;
    static std::uint64_t offered_protocol_features();
    NetConfig config_space() const;
    unsigned rings() const { return static_cast<unsigned>(vrings_.size()); }

    /// The queues of a pair; nullptr while the ring does not run.
    ReceiveQueue* receive(unsigned pair) noexcept;
    TransmitQueue* transmit(unsigned pair) noexcept;

    const ReceiveCounters& receive_counters(unsigned pair) const { return receive_counters_[pair]; }
    const TransmitCounters& transmit_counters(unsigned pair) const { return transmit_counters_[pair]; }
    SessionCounters& session_counters() { return session_counters_; }
    const SessionCounters& session_counters() const { return session_counters_; }

    GuestMemory& memory() { return memory_; }
    const GuestMemory& memory() const { return memory_; }
    const Vring& vring(unsigned ring) const { return vrings_[ring]; }
    Vring& vring(unsigned ring) { return vrings_[ring]; }
    bool running(unsigned ring) const;

    std::uint64_t features() const { return features_; }
    void set_features(std::uint64_t features) { features_ = features; }
    std::uint64_t protocol_features() const { return protocol_features_; }
    void set_protocol_features(std::uint64_t features) { protocol_features_ = features; }
    std::uint64_t status() const { return status_; }
    void set_status(std::uint64_t status) { status_ = status; }

    /// Starts the ring if its state calls for it (started, enabled or to be drained, and all of it in guest memory)
    /// and it does not run. False when it should run and its memory is not there.
    bool start(unsigned ring);
    /// Stops the ring. What is in flight is forgotten: drain first.
    void stop(unsigned ring) noexcept;
    /// Passes the ring's eventfds on to its queue, if it runs.
    void refresh_events(unsigned ring) noexcept;
    /// used.idx as we left it: the answer to GET_VRING_BASE.
    std::uint16_t used_index(unsigned ring) const { return used_index_[ring]; }

    /// Back to unconnected: rings, memory, features. All rings are stopped.
    void forget_front_end();
    /// Back to unused by the guest (RESET_DEVICE, status 0), still connected. All rings are stopped.
    void reset(bool disable_rings);

private:
    bool should_run(unsigned ring) const;
    std::optional<RingMemory> translate(const Vring& vring) const;

    DeviceConfig config_;
    GuestMemory memory_;
    std::vector<Vring> vrings_;
    std::vector<std::uint16_t> used_index_;
    std::uint64_t features_ = 0;
    std::uint64_t protocol_features_ = 0;
    std::uint64_t status_ = 0;
    std::vector<ReceiveCounters> receive_counters_;
    std::vector<TransmitCounters> transmit_counters_;
    SessionCounters session_counters_;
    std::vector<std::optional<ReceiveQueue>> receive_;
    std::vector<std::optional<TransmitQueue>> transmit_;
};

}  // namespace vitrine::virtio
