#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "driver/device.hpp"
#include "driver/pci_sysfs.hpp"
#include "driver/vfio_info.hpp"
#include "driver/vfio_space.hpp"
#include "mem/address.hpp"
#include "mem/file_descriptor.hpp"
#include "mem/guarded_mapping.hpp"

namespace vitrine::driver {

/// A virtual function through the kernel's VFIO (Documentation/driver-api/vfio.rst). A Device.
///
/// BAR0 is used by mapping where the kernel allows it, else by pread and pwrite on the device's file. An access that
/// the kernel answers with SIGBUS (the function's memory is switched off) throws ENODEV here, and does nothing in a
/// doorbell. Control thread only; does not move, because doorbells refer to its file and mapping.
///
/// Members are declared in the order they are acquired, and so released in reverse: the device, which the kernel then
/// resets, before the space with the mappings.
class VfioDevice {
public:
    /// Opens the function. Throws std::system_error with the cause and the command that removes it; `patience`
    /// is for one that another process is about to let go.
    VfioDevice(const PciSysfs& sysfs, const std::string& address, std::chrono::milliseconds patience);
    VfioDevice(const VfioDevice&) = delete;
    VfioDevice& operator=(const VfioDevice&) = delete;

    std::uint32_t load(std::uint32_t offset);
    void store(std::uint32_t offset, std::uint32_t value);
    std::uint16_t read_config(std::uint32_t offset);
    void write_config(std::uint32_t offset, std::uint16_t value);
    Doorbell doorbell(std::uint32_t offset);

    bool is_iommufd() const { return space_.is_iommufd(); }
    const std::vector<IovaRange>& iova_ranges() const { return space_.ranges(); }
    void map_dma(mem::Iova iova, const DmaMemory& memory, DmaAccess access) {
        space_.map_dma(iova, memory.host, access);
    }
    void unmap_dma(mem::Iova iova, std::size_t bytes) { space_.unmap_dma(iova, bytes); }
    void set_interrupts(std::span<const int> eventfds);
    void reset();

    /// Readable when attention() has something to say.
    int descriptor() const { return attention_.get(); }
    Attention attention() const;

private:
    struct Window {
        std::uint64_t offset;  // in BAR0
        std::uint64_t bytes;
        mem::GuardedMapping mapping;
    };

    void open_bar0();
    void watch(unsigned interrupt, const mem::EventFd& event);
    void set_irqs(unsigned index, std::span<const int> eventfds, const char* name);
    Region region(unsigned index) const;
    std::uint32_t* mapped(std::uint32_t offset) const;
    void expect_alive() const;

    VfioSpace space_;
    mem::FileDescriptor device_;
    Region config_;
    Region bar0_;
    std::vector<Window> windows_;
    mem::EventFd error_;
    mem::EventFd request_;
    mem::FileDescriptor attention_;  // an epoll of the two above
    std::size_t vectors_ = 0;        // with an eventfd
    bool can_reset_ = false;
};

static_assert(Device<VfioDevice>);

}  // namespace vitrine::driver
