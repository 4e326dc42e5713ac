/// A front-end that sends what it likes, with what descriptors it likes. The input is a list of messages: a head that
/// says which request, how long, which flags and files, and then the payload. Between messages both queues take a turn.

#include <array>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "mem/socket.hpp"
#include "virtio/session.hpp"

using namespace vitrine;
namespace wire = virtio::vhost_user;

namespace {

constexpr std::size_t ram_bytes = 0x1'0000;

void require(bool condition) {
    if (!condition) std::abort();
}

struct Head {
    std::uint8_t request;
    std::uint8_t flags;     ///< bit 0: need_reply; bit 7: the header's flags are the raw bits 6:0 instead
    std::uint8_t files;     ///< low nibble: how many; bit 4: memory files instead of eventfds
    std::uint8_t truncate;  ///< 255: announce eight bytes more than come, and hang up
    std::uint16_t bytes;
};
static_assert(sizeof(Head) == 6);

/// Guest RAM with a receive ring of 8 at 0 and a transmit ring of 8 at 0x1000, four chains posted in each: what a
/// session needs to have something to lose. As packed rings they have the same chains, since what is `next` in a split
/// one, and of no meaning here, are the flags of a packed one.
struct Ram {
    Ram() : file(::memfd_create("guest", MFD_CLOEXEC)) {
        require(file && ::ftruncate(file.get(), ram_bytes) == 0);
        mapping = mem::Mapping(file.get(), ram_bytes, 0, mem::Access::read_write);
    }
    void fill() const {
        std::memset(mapping.data(), 0, ram_bytes);
        for (const std::size_t ring : {0x0000, 0x1000}) {
            for (std::uint16_t index = 0; index < 4; ++index) {
                const std::uint16_t flags = ring == 0 ? virtio::Descriptor::device_writes : 0;
                const virtio::Descriptor descriptor{
                    .address = 0x8000 + 0x800ull * index,
                    .length_bytes = 0x400,
                    .flags = flags,
                    .next = static_cast<std::uint16_t>(flags | virtio::PackedDescriptor::available)};
                std::memcpy(mapping.data() + ring + sizeof(descriptor) * index, &descriptor, sizeof(descriptor));
                std::memcpy(mapping.data() + ring + 0x400 + 4 + 2u * index, &index, sizeof(index));
            }
            const std::uint16_t available = 4;
            std::memcpy(mapping.data() + ring + 0x400 + 2, &available, sizeof(available));
        }
    }
    mem::FileDescriptor file;
    mem::Mapping mapping;
};

/// One turn of a poll thread.
void poll(virtio::Device& device) {
    static const std::array<std::byte, 60> frame{};
    const std::span<const std::byte> piece(frame);
    for (unsigned pair = 0; pair < device.config().pairs; ++pair) {
        if (auto* const queue = device.receive(pair)) {
            queue->deliver({&piece, 1}, {});
            queue->want_kicks(true);
            queue->drain_kick();
            queue->publish();
        }
        if (auto* const queue = device.transmit(pair)) {
            for (int i = 0; i < 4; ++i) queue->next();
            queue->complete_oldest(queue->in_flight() / 2);
            queue->drain_kick();
            queue->publish();
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Ram ram;
    static const mem::EventFd event;
    ram.fill();

    virtio::Device device({.pairs = 2, .packed = true});
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    mem::FileDescriptor socket(ends[0]);
    std::size_t regions = 0;
    virtio::Hooks hooks;
    hooks.hold = [] { return mem::Handover::Hold{}; };
    hooks.drain = [&](unsigned ring) { require(device.running(ring)); };
    hooks.region_added = [&](const virtio::GuestRegion& region) {
        ++regions;
        device.memory().set_iova(region.guest, mem::Iova{0x1'0000'0000});
    };
    hooks.region_removed = [&](const virtio::GuestRegion&) { --regions; };
    {
        virtio::Session session(mem::FileDescriptor(ends[1]), device, hooks);
        bool open = true;
        while (open && size >= sizeof(Head)) {
            Head head;
            std::memcpy(&head, data, sizeof(head));
            data += sizeof(head);
            size -= sizeof(head);
            const std::size_t bytes = head.bytes % 4200 < size ? head.bytes % 4200 : size;
            const bool cut = head.truncate == 255;
            const wire::Header header{
                .request = head.request,
                .flags = (head.flags & 0x80) != 0 ? head.flags & 0x7fu : wire::version | (head.flags & 1u) << 3,
                .size = static_cast<std::uint32_t>(bytes + (cut ? 8 : 0))};
            std::vector<std::byte> message(sizeof(header) + bytes);
            std::memcpy(message.data(), &header, sizeof(header));
            std::memcpy(message.data() + sizeof(header), data, bytes);
            data += bytes;
            size -= bytes;
            const std::vector<int> files(head.files & 0xf, (head.files & 0x10) != 0 ? ram.file.get() : event.get());
            mem::send_all(socket.get(), message, files, std::chrono::seconds(1));
            if (cut) ::shutdown(socket.get(), SHUT_WR);
            open = session.handle_message();
            require(!cut || !open);
            poll(device);
            std::array<std::byte, 8192> replies;
            while (::recv(socket.get(), replies.data(), replies.size(), MSG_DONTWAIT) > 0) {
            }
        }
    }
    require(regions == 0 && device.memory().regions().empty());
    for (unsigned ring = 0; ring < device.rings(); ++ring) require(!device.running(ring));
    return 0;
}
