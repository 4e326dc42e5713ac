#include "driver/vfio_container.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/vfio.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "driver/clock.hpp"
#include "driver/failure.hpp"
#include "driver/vfio_call.hpp"
#include "driver/vfio_mapping.hpp"

namespace vitrine::driver {
namespace {

using namespace std::chrono_literals;

mem::FileDescriptor open_container() {
    mem::FileDescriptor file(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
    if (file) return file;
    if (errno == EACCES)
        fail(errno, "open /dev/vfio/vfio (chmod 0666 /dev/vfio/vfio: it is no secret, the groups are)");
    fail(errno, "open /dev/vfio/vfio (modprobe vfio-pci)");
}

mem::FileDescriptor open_group(const std::string& path, std::chrono::milliseconds patience) {
    SteadyClock clock;
    mem::FileDescriptor file;
    int error = 0;
    wait_until(clock, patience, 20ms, [&] {
        file = mem::FileDescriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        error = errno;
        return file || error != EBUSY;
    });
    if (file) return file;
    if (error == EBUSY) fail(error, "open " + path + ": another process has it (fuser -v " + path + ")");
    if (error == EACCES || error == EPERM)
        fail(error, "open " + path + ": user " + std::to_string(::geteuid()) + " may not (chown " +
                        std::to_string(::geteuid()) + " " + path + ")");
    fail(error, "open " + path);
}

}  // namespace

VfioContainer::VfioContainer(const PciSysfs& sysfs, unsigned group, std::chrono::milliseconds patience)
    : container_(open_container()), group_(open_group("/dev/vfio/" + std::to_string(group), patience)) {
    if (vfio_call(container_.get(), VFIO_GET_API_VERSION, 0, "VFIO_GET_API_VERSION") != VFIO_API_VERSION)
        fail(ENOTSUP, "VFIO_GET_API_VERSION: not the one that we know");
    if (vfio_call(container_.get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU, "VFIO_CHECK_EXTENSION") == 0)
        fail(ENOTSUP, "VFIO has no type 1 IOMMU (modprobe vfio_iommu_type1)");

    vfio_group_status status{.argsz = sizeof(status), .flags = 0};
    vfio_call(group_.get(), VFIO_GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS");
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
        fail(EPERM, "IOMMU group " + std::to_string(group) +
                        " is not viable, the host's drivers have a part of it: " + sysfs.strangers_in(group) +
                        " (for each of them: echo ADDRESS >/sys/bus/pci/devices/ADDRESS/driver/unbind)");
    const int container = container_.get();
    vfio_call(group_.get(), VFIO_GROUP_SET_CONTAINER, &container, "VFIO_GROUP_SET_CONTAINER");
    try {
        vfio_call(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, "VFIO_SET_IOMMU");
    } catch (const std::system_error& error) {
        if (error.code().value() != EPERM) throw;
        fail(EPERM,
             "VFIO_SET_IOMMU: the machine does not remap interrupts, so a device could raise any of the host's (switch "
             "interrupt remapping on in the firmware, or trust the device: "
             "echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts)");
    }
    info_ = read_info();
}

mem::FileDescriptor VfioContainer::open_device(const std::string& address) const {
    return mem::FileDescriptor(vfio_call(group_.get(), VFIO_GROUP_GET_DEVICE_FD, address.c_str(),
                                         ("VFIO_GROUP_GET_DEVICE_FD " + address).c_str()));
}

IommuInfo VfioContainer::read_info() const {
    return parse_iommu_info(
        vfio_answer(container_.get(), VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info{}, "VFIO_IOMMU_GET_INFO"));
}

void VfioContainer::map_dma(mem::Iova iova, std::span<std::byte> host, DmaAccess access) {
    expect_mappable(info_.ranges, iova, host.size());
    if (const auto left = read_info().maps_left; left && *left == 0)
        fail(ENOSPC, "VFIO_IOMMU_MAP_DMA: the container takes no more mappings (vfio_iommu_type1: dma_entry_limit)");
    const std::uint32_t writable = access == DmaAccess::device_reads ? 0 : VFIO_DMA_MAP_FLAG_WRITE;
    vfio_iommu_type1_dma_map map{.argsz = sizeof(map),
                                 .flags = VFIO_DMA_MAP_FLAG_READ | writable,
                                 .vaddr = reinterpret_cast<std::uintptr_t>(host.data()),
                                 .iova = iova.raw,
                                 .size = host.size()};
    if (::ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &map) != 0) fail_to_map(errno, "VFIO_IOMMU_MAP_DMA", host.size());
}

void VfioContainer::unmap_dma(mem::Iova iova, std::size_t bytes) {
    vfio_iommu_type1_dma_unmap unmap{};
    unmap.argsz = sizeof(unmap);
    unmap.iova = iova.raw;
    unmap.size = bytes;
    vfio_call(container_.get(), VFIO_IOMMU_UNMAP_DMA, &unmap, "VFIO_IOMMU_UNMAP_DMA");
    if (unmap.size != bytes)
        fail(EINVAL, "VFIO_IOMMU_UNMAP_DMA: " + std::to_string(unmap.size) + " bytes of " + std::to_string(bytes));
}

}  // namespace vitrine::driver
