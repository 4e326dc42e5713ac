#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/doorbell.hpp"
#include "driver/register.hpp"
#include "driver/vfio_info.hpp"
#include "mem/address.hpp"

namespace vitrine::driver {

enum class DmaAccess { device_reads, device_reads_and_writes };

/// Memory for the NIC, as both doors want it: a vfio-user server maps the file, the kernel pins the host pages.
struct DmaMemory {
    std::span<std::byte> host;
    int file = -1;
    std::uint64_t file_offset = 0;
};

/// What a device that wants attention has to say. After all of these it is to be closed: a bus error leaves it unusable
/// until it is opened anew, and who is wanted back is waited for.
enum class Attention {
    none,
    gone,         ///< its server is
    bus_error,    ///< PCI Express reports an error that cannot be corrected
    wanted_back,  ///< the host is about to unbind or to remove it
};

/// One virtual function, through whichever door: BAR0 registers, configuration space, DMA mappings, interrupts.
///
/// - load, store: BAR0, finished (and answered) when they return. Control thread only.
/// - read_config, write_config: 16 bits of configuration space.
/// - doorbell: a register for a poll thread to write (see Doorbell).
/// - iova_ranges: where mappings may be.
/// - map_dma: until unmap_dma or the end of the device. Never at IOVA 0.
/// - set_interrupts: one eventfd for each MSI-X vector from 0; replaces those before; none turns MSI-X off.
/// - reset: of the function (FLR). Queues and interrupts stop, BAR0 keeps much of its contents (fact: see Vf::reset).
/// - descriptor: readable when attention() has something to say.
///
/// All throw std::system_error, also when the device is gone; the doorbell alone never does.
template <class T>
concept Device = RegisterSpace<T> &&
                 requires(T device, const T unchanging, std::uint32_t offset, std::uint16_t half_word, mem::Iova iova,
                          const DmaMemory& memory, std::size_t bytes, std::span<const int> eventfds) {
                     { device.read_config(offset) } -> std::same_as<std::uint16_t>;
                     device.write_config(offset, half_word);
                     { device.doorbell(offset) } -> std::same_as<Doorbell>;
                     device.map_dma(iova, memory, DmaAccess::device_reads);
                     device.unmap_dma(iova, bytes);
                     device.set_interrupts(eventfds);
                     device.reset();
                     { unchanging.iova_ranges() } -> std::same_as<const std::vector<IovaRange>&>;
                     { unchanging.descriptor() } -> std::same_as<int>;
                     { unchanging.attention() } -> std::same_as<Attention>;
                 };

}  // namespace vitrine::driver
