#include "driver/vfio_iommufd.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "driver/clock.hpp"
#include "driver/failure.hpp"
#include "driver/iommufd_abi.hpp"
#include "driver/vfio_call.hpp"
#include "driver/vfio_mapping.hpp"

namespace vitrine::driver {
namespace {

using namespace std::chrono_literals;

constexpr const char* iommufd_file = "/dev/iommu";

mem::FileDescriptor open_file(const std::string& path) {
    mem::FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file) fail(errno, "open " + path);
    return file;
}

/// What the kernel says of a function that is open elsewhere, of one whose group is, and of one that still belongs to
/// the address space of a process that is going.
bool may_be_in_use(int error) {
    return error == EINVAL || error == EBUSY || error == EPERM;
}

}  // namespace

bool VfioIommufd::is_usable(const std::string& device_file) {
    constexpr int both = R_OK | W_OK;
    return ::access(iommufd_file, both) == 0 && ::access(device_file.c_str(), both) == 0;
}

VfioIommufd::VfioIommufd(const std::string& device_file, std::chrono::milliseconds patience)
    : iommufd_(open_file(iommufd_file)), device_(open_file(device_file)) {
    SteadyClock clock;
    iommufd::BindDevice bind{.iommufd = iommufd_.get()};
    int error = 0;
    wait_until(clock, patience, 20ms, [&] {
        error = ::ioctl(device_.get(), iommufd::bind_device, &bind) == 0 ? 0 : errno;
        return !may_be_in_use(error);
    });
    if (may_be_in_use(error))
        fail(error, "VFIO_DEVICE_BIND_IOMMUFD: another process has it (fuser -v " + device_file +
                        "), or the machine does not remap interrupts (dmesg | grep -i remapping)");
    if (error != 0) fail(error, "VFIO_DEVICE_BIND_IOMMUFD " + device_file);

    iommufd::AllocateSpace allocate;
    vfio_call(iommufd_.get(), iommufd::allocate_space, &allocate, "IOMMU_IOAS_ALLOC");
    space_ = allocate.space;
    iommufd::AttachDevice attach{.space = space_};
    vfio_call(device_.get(), iommufd::attach_device, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    ranges_ = read_ranges();
}

std::vector<IovaRange> VfioIommufd::read_ranges() const {
    static_assert(sizeof(IovaRange) == 16);  // as the kernel writes them
    iommufd::ReadRanges question{.space = space_, .count = 0, .ranges = 0};
    if (::ioctl(iommufd_.get(), iommufd::read_ranges, &question) != 0 && errno != EMSGSIZE)
        fail(errno, "IOMMU_IOAS_IOVA_RANGES");
    std::vector<IovaRange> ranges(question.count);
    question.ranges = reinterpret_cast<std::uintptr_t>(ranges.data());
    vfio_call(iommufd_.get(), iommufd::read_ranges, &question, "IOMMU_IOAS_IOVA_RANGES");
    ranges.resize(question.count);
    return ranges;
}

void VfioIommufd::map_dma(mem::Iova iova, std::span<std::byte> host, DmaAccess access) {
    expect_mappable(ranges_, iova, host.size());
    const std::uint32_t writes = access == DmaAccess::device_reads ? 0 : iommufd::MapMemory::device_writes;
    iommufd::MapMemory map{.flags = iommufd::MapMemory::fixed_address | iommufd::MapMemory::device_reads | writes,
                           .space = space_,
                           .host = reinterpret_cast<std::uintptr_t>(host.data()),
                           .bytes = host.size(),
                           .iova = iova.raw};
    if (::ioctl(iommufd_.get(), iommufd::map_memory, &map) != 0) fail_to_map(errno, "IOMMU_IOAS_MAP", host.size());
}

void VfioIommufd::unmap_dma(mem::Iova iova, std::size_t bytes) {
    iommufd::UnmapMemory unmap{.space = space_, .iova = iova.raw, .bytes = bytes};
    vfio_call(iommufd_.get(), iommufd::unmap_memory, &unmap, "IOMMU_IOAS_UNMAP");
}

}  // namespace vitrine::driver
