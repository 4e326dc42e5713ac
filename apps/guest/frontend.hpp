#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "apps/guest/transport.hpp"
#include "mem/file_descriptor.hpp"
#include "virtio/vhost_user.hpp"

namespace vitrine::guest {

/// Connects to a back-end that listens, trying again for `limit` while nobody does. Throws std::system_error.
mem::FileDescriptor connect_to_backend(const std::string& path, std::chrono::milliseconds limit);
/// Listens until a back-end connects. Throws std::system_error (ETIMEDOUT).
mem::FileDescriptor await_backend(const std::string& path, std::chrono::milliseconds limit);

/// The front-end of one vhost-user connection, and so the pretended VM around the driver. It sends what
/// cloud-hypervisor sends for a virtio-net device, in its order: SET_OWNER first, NEED_REPLY on everything once
/// REPLY_ACK is agreed, the base of a split ring from avail.idx, and ENABLE after all rings are described.
///
/// Every member throws std::system_error that names the request: ETIMEDOUT when the answer takes longer than
/// `answer_limit`, ECONNRESET when the back-end is gone, EPROTO when it refuses or talks nonsense.
class Frontend : public Transport {
public:
    static constexpr std::chrono::milliseconds answer_limit{5000};

    /// Negotiates, as at the creation of the device. `wanted` are the virtio features to take if they are offered;
    /// `rings` is how many the back-end must have.
    Frontend(mem::FileDescriptor socket, std::uint64_t wanted, unsigned rings);

    GuestRam make_ram(std::size_t bytes, mem::Backing backing) override { return {bytes, backing}; }
    void activate(const GuestRam& ram, std::span<RingEnd* const> rings) override;
    /// Notes where a ring does not stand where its memory says.
    void deactivate(std::span<RingEnd* const> rings) override;

    /// The back-end never speaks first.
    bool keep(Clock::time_point) override;
    bool calls() const noexcept override { return true; }
    int descriptor() const noexcept override { return socket_.get(); }

private:
    using Request = virtio::vhost_user::Request;

    void send(Request request, std::span<const std::byte> payload, std::span<const int> descriptors);
    /// Reads the reply to `request`, which has exactly the size of `payload`.
    void receive(Request request, std::span<std::byte> payload);
    /// Sends and, when REPLY_ACK is agreed, waits for the acknowledgement.
    void tell(Request request, std::span<const std::byte> payload = {}, std::span<const int> descriptors = {});
    std::uint64_t ask(Request request);
    void tell_state(Request request, unsigned ring, std::uint32_t number);
    void tell_file(Request request, unsigned ring, int descriptor);
    void read_config();
    void share_memory(const GuestRam& ram);
    void describe_ring(unsigned ring, const RingEnd& where);

    mem::FileDescriptor socket_;
    std::uint64_t protocol_features_ = 0;
};

}  // namespace vitrine::guest
