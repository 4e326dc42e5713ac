#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "mem/handover.hpp"
#include "virtio/device.hpp"
#include "virtio/message.hpp"

namespace vitrine::virtio {

/// What the session asks of the rest of the program. It never touches what the poll thread runs without a hold.
struct Hooks {
    /// The poll thread stands still while the result lives.
    std::function<mem::Handover::Hold()> hold;
    /// Inside a hold, before a ring stops: finish or give up what the NIC has of it. Ring 2p receives, 2p + 1 sends.
    std::function<void(unsigned ring)> drain;
    /// Guest memory came; the poll thread runs. Where --guest-dma is on: map it, then Device::memory().set_iova in a
    /// hold.
    std::function<void(const GuestRegion&)> region_added;
    /// Guest memory goes, inside the hold, rings drained and stopped: unmap it before this returns.
    std::function<void(const GuestRegion&)> region_removed;
};

/// One vhost-user connection: reads requests, checks them, changes the device. Control thread.
///
/// A bad request is counted by reason and answered with non-zero when the front-end waits for a reply, else the
/// connection ends. The destructor stops all rings, forgets the guest's memory and leaves the device unconnected.
class Session {
public:
    Session(mem::FileDescriptor socket, Device& device, Hooks hooks);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Reads and serves one request; call it when descriptor() is readable. Waits at most `message_limit` for a
    /// message that has begun. False: the connection is over.
    bool handle_message();
    int descriptor() const { return socket_.get(); }
    /// The last request that was refused and why, for the log; empty when there was none.
    const std::string& last_refusal() const { return last_refusal_; }

    static constexpr std::chrono::milliseconds message_limit{1000};

private:
    /// The counter of a refusal.
    using Reason = std::uint64_t SessionCounters::*;
    /// Empty: acknowledge if asked. Else the payload of the reply.
    using Answer = std::expected<std::vector<std::byte>, Reason>;

    /// What a request must look like, and who serves it.
    struct Rule {
        vhost_user::Request request;
        std::string_view name;
        Answer (Session::*handler)(Message&);
        std::size_t least_bytes;
        std::size_t most_bytes;
        std::size_t most_descriptors;
        std::uint64_t protocol_feature;  ///< that must be negotiated; 0 is none
    };
    static const std::array<Rule, 24> rules;
    static const Rule* find_rule(std::uint32_t request);

    bool receive(Message& message);
    Answer serve(Message& message);
    bool reply(const Message& message, const Answer& answer);
    void note_refusal(const Message& message, Reason reason, std::string_view detail = {});

    /// Inside a hold: the ring stands still, nothing of it in flight.
    void stop_ring(unsigned ring);
    /// Returns how many ran.
    unsigned stop_rings();
    /// Inside a hold: starts what should run and does not; returns how many. Rings whose memory is missing stay down
    /// until it comes.
    unsigned start_rings();
    void count_lost_rings(unsigned stopped, unsigned started);
    /// Tells the program of a new region; the poll thread runs.
    void announce(const GuestRegion& region);
    /// Stops the ring inside a hold, changes it, and starts it again if it then should run.
    template <class Change>
    Answer change_ring(unsigned ring, Change change);
    /// The ring index of a payload that starts with one, checked.
    std::expected<unsigned, Reason> ring_of(const Message& message) const;
    /// Ring and eventfd (perhaps none) of SET_VRING_KICK and its like.
    struct RingFile {
        unsigned ring;
        mem::FileDescriptor file;
    };
    std::expected<RingFile, Reason> ring_file_of(Message& message) const;

    Answer get_features(Message&);
    Answer set_features(Message&);
    Answer set_owner(Message&);
    Answer reset_owner(Message&);
    Answer set_mem_table(Message&);
    Answer set_vring_num(Message&);
    Answer set_vring_addr(Message&);
    Answer set_vring_base(Message&);
    Answer get_vring_base(Message&);
    Answer set_vring_kick(Message&);
    Answer set_vring_call(Message&);
    Answer set_vring_err(Message&);
    Answer get_protocol_features(Message&);
    Answer set_protocol_features(Message&);
    Answer get_queue_num(Message&);
    Answer set_vring_enable(Message&);
    Answer net_set_mtu(Message&);
    Answer get_config(Message&);
    Answer reset_device(Message&);
    Answer get_max_mem_slots(Message&);
    Answer add_mem_reg(Message&);
    Answer rem_mem_reg(Message&);
    Answer set_status(Message&);
    Answer get_status(Message&);

    mem::FileDescriptor socket_;
    Device& device_;
    Hooks hooks_;
    std::string last_refusal_;
};

}  // namespace vitrine::virtio
