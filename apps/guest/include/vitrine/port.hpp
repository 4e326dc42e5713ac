#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

/// vitrine's packet pages for a program: it reads frames where the NIC put them. docs/library.md has an example.
namespace vitrine {

/// What is known of a frame besides its bytes; the fields of virtio_net_hdr (VIRTIO 1.3, 5.1.6).
struct FrameHeader {
    std::uint8_t flags = 0;  ///< 1: the checksum is still to be made; 2: it was checked, and is right
    std::uint8_t gso_type = 0;
    std::uint16_t header_bytes = 0;
    std::uint16_t gso_bytes = 0;
    std::uint16_t checksum_start = 0;
    std::uint16_t checksum_offset = 0;
    std::uint16_t buffers = 0;
};

/// A received frame, from its Ethernet header on and without CRC. It lies in memory that you can read and nobody
/// writes, and is yours until you release it. A plain value: keep it as long as you like.
struct Frame {
    std::span<const std::byte> bytes;  ///< its first part, which is nearly always all: one page holds a frame
    std::size_t length_bytes;          ///< of all parts
    std::uint32_t first;               ///< the port's name for it
    std::uint16_t parts;
    FrameHeader header;

    bool checksum_ok() const { return (header.flags & 2) != 0; }
};

/// One receive queue of a virtio-net device that lends its pages, and one transmit queue into which frames are copied:
///     for (const vitrine::Frame& frame : port.receive()) { ...; port.release(frame); }
/// One thread at a time. The constructor throws std::system_error or std::runtime_error that names the attempt; nothing
/// else throws, allocates, or makes a system call but wait() and the notifications that the device asks for.
class Port {
public:
    struct Options {
        std::string socket_path;             ///< the vhost-user socket of `vitrine run`, or
        std::string pci_address{};           ///< inside a virtual machine, as root: the device, "0000:00:03.0"
        std::string pages_path;              ///< vitrine's --pages-path; inside, the device that has the pages: "pci"
        std::uint16_t entries = 256;         ///< of each ring, a power of two; up to 4 pages each can be held
        std::size_t most_send_bytes = 9018;  ///< of one frame
        std::chrono::milliseconds patience{0};  ///< with a device that does not listen yet
    };
    enum class State {
        running,
        gone,     ///< the device's process; frames that are held stay good to read until a new Port opens the device
        refused,  ///< the device lends no pages, or has lost those it had lent (docs/vrx.md, 3.4)
        broken,   ///< the device broke a rule of the ring; nothing more is received
    };
    struct Statistics {
        std::uint64_t frames = 0;  ///< received
        std::uint64_t bytes = 0;
        std::uint64_t sent = 0;           ///< given to the device
        std::uint64_t not_sent = 0;       ///< there was no room, or the frame was too long
        std::uint64_t kicks = 0;          ///< notifications that the device asked for
        std::uint64_t calls = 0;          ///< notifications that we asked for
        std::uint64_t violations = 0;     ///< rules that the device broke
        std::size_t pages_held = 0;       ///< in frames that are not released yet
        std::size_t most_pages_held = 0;  ///< the device lends no more than these
    };

    explicit Port(const Options& options);
    Port(Port&&) noexcept;
    Port& operator=(Port&&) noexcept;
    /// Stops the queues. Frames of this port must not be used any more.
    ~Port();

    /// The next frames, at most 64; none when there are none. The list is good until the next call.
    std::span<const Frame> receive() noexcept;
    /// Gives a frame back: each once, in any order, at any time. The device learns of it with the next receive(),
    /// wait() or flush().
    void release(const Frame& frame) noexcept;
    /// Part `index` of a frame, counted from 0.
    std::span<const std::byte> part(const Frame& frame, std::size_t index) const noexcept;
    /// The frame in one piece: itself, when it has one part; else copied to `scratch`, as far as it fits.
    std::span<const std::byte> contiguous(const Frame& frame, std::span<std::byte> scratch) const noexcept;

    /// Copies a frame into the transmit queue. False: no room. It leaves with the next receive(), wait() or flush().
    bool send(std::span<const std::byte> frame) noexcept;
    void flush() noexcept;

    /// Sleeps until there are frames, the device is gone, or the limit is over; also when the descriptor `also` gets
    /// readable, if one is given. True: there are frames. A PCI device calls nobody, and is looked at every 100 us.
    bool wait(std::chrono::nanoseconds limit, int also = -1) noexcept;
    /// Asks the system whether the device is still there: for when nothing comes.
    State state() const noexcept;
    Statistics statistics() const noexcept;

    std::array<std::uint8_t, 6> mac() const noexcept;
    std::size_t page_bytes() const noexcept;
    /// All of the region (docs/vrx.md, 2), as it is mapped.
    std::span<const std::byte> region() const noexcept;
    /// Which receive queue of the region this port has.
    unsigned queue() const noexcept;
    /// A read-only descriptor of the region, for a process that may read along. It stays the port's.
    int region_descriptor() const noexcept;

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace vitrine
