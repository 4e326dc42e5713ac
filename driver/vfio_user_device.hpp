#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "driver/device.hpp"
#include "driver/vfio_user_connection.hpp"
#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/mapping.hpp"
#include "mem/vfio_user.hpp"

namespace vitrine::driver {

/// A virtual function behind a vfio-user socket (QEMU docs/interop/vfio-user.rst, version 0.0). A Device.
///
/// Registers go by message and are answered. Ring tails alone use the mapping, if the server offers the queue pages
/// and their file is sealed against shrinking (else a server could turn a tail write into a SIGBUS).
/// Control thread only; does not move, because doorbells refer to its socket and mapping.
class VfioUserDevice {
public:
    /// Connects and learns about the device. Every answer is awaited for at most `limit`.
    /// Throws std::system_error: nobody listens, no vfio-user server, no PCI function with such BARs.
    VfioUserDevice(const std::string& path, std::chrono::milliseconds limit);
    /// The same on a connected socket.
    VfioUserDevice(mem::FileDescriptor socket, std::chrono::milliseconds limit);
    VfioUserDevice(const VfioUserDevice&) = delete;
    VfioUserDevice& operator=(const VfioUserDevice&) = delete;

    std::uint32_t load(std::uint32_t offset);
    void store(std::uint32_t offset, std::uint32_t value);
    std::uint16_t read_config(std::uint32_t offset);
    void write_config(std::uint32_t offset, std::uint16_t value);

    Doorbell doorbell(std::uint32_t offset);
    /// Whether ring tails are stores to shared memory rather than messages.
    bool has_mapped_tails() const { return !tails_.empty(); }

    /// A server takes any address. Those that an IOMMU of x86 takes will do, and more of them are never needed.
    const std::vector<IovaRange>& iova_ranges() const { return iova_ranges_; }
    void map_dma(mem::Iova iova, const DmaMemory& memory, DmaAccess access);
    void unmap_dma(mem::Iova iova, std::size_t bytes);
    void set_interrupts(std::span<const int> eventfds);
    void reset();
    /// Readable or hung up: the server is gone. It sends nothing unasked.
    int descriptor() const { return connection_.descriptor(); }
    Attention attention() const { return Attention::gone; }

private:
    struct Tails {
        std::uint64_t offset;  // in BAR0
        mem::Mapping mapping;
    };

    void negotiate();
    void check_is_pci_function();
    VfioUserConnection::Reply region_info(std::uint32_t region, std::uint32_t most_bytes);
    void open_bar0();
    void map_tails(const VfioUserConnection::Reply& reply, const mem::vfio_user::RegionInfo& info);
    void read_region(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out);
    void write_region(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> bytes);

    VfioUserConnection connection_;
    std::size_t most_descriptors_ = 1;  // what a server takes in one message that says nothing about it
    std::vector<Tails> tails_;
    std::vector<IovaRange> iova_ranges_{{0, (std::uint64_t{1} << 39) - 1}};
};

static_assert(Device<VfioUserDevice>);

}  // namespace vitrine::driver
