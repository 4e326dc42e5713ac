#include "driver/vfio_device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/vfio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "driver/clock.hpp"
#include "driver/failure.hpp"
#include "driver/registers.hpp"
#include "driver/vfio_call.hpp"

namespace vitrine::driver {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds reset_limit = 1s;

template <class T>
T read_at(int file, std::uint64_t offset, const char* what) {
    T value{};
    const ssize_t count = ::pread(file, &value, sizeof(value), static_cast<off_t>(offset));
    if (count != sizeof(value)) fail(count < 0 ? errno : EIO, std::string("VFIO: read ") + what);
    return value;
}

template <class T>
void write_at(int file, std::uint64_t offset, T value, const char* what) {
    const ssize_t count = ::pwrite(file, &value, sizeof(value), static_cast<off_t>(offset));
    if (count != sizeof(value)) fail(count < 0 ? errno : EIO, std::string("VFIO: write ") + what);
}

}  // namespace

VfioDevice::VfioDevice(const PciSysfs& sysfs, const std::string& address, std::chrono::milliseconds patience)
    : space_(sysfs, address, patience), device_(space_.take_device(address)) {
    vfio_device_info info{.argsz = sizeof(info), .flags = 0, .num_regions = 0, .num_irqs = 0, .cap_offset = 0};
    vfio_call(device_.get(), VFIO_DEVICE_GET_INFO, &info, "VFIO_DEVICE_GET_INFO");
    if ((info.flags & VFIO_DEVICE_FLAGS_PCI) == 0 || info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX ||
        info.num_irqs <= VFIO_PCI_MSIX_IRQ_INDEX)
        fail(ENODEV, "VFIO_DEVICE_GET_INFO: " + address + " is no PCI function with MSI-X");
    can_reset_ = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    config_ = region(VFIO_PCI_CONFIG_REGION_INDEX);
    open_bar0();

    attention_ = mem::FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    if (!attention_) mem::throw_errno("epoll_create1");
    if (info.num_irqs > VFIO_PCI_ERR_IRQ_INDEX) watch(VFIO_PCI_ERR_IRQ_INDEX, error_);
    if (info.num_irqs > VFIO_PCI_REQ_IRQ_INDEX) watch(VFIO_PCI_REQ_IRQ_INDEX, request_);
}

Region VfioDevice::region(unsigned index) const {
    vfio_region_info asked{};
    asked.index = index;
    return parse_region_info(
        vfio_answer(device_.get(), VFIO_DEVICE_GET_REGION_INFO, asked, "VFIO_DEVICE_GET_REGION_INFO"));
}

void VfioDevice::open_bar0() {
    bar0_ = region(VFIO_PCI_BAR0_REGION_INDEX);
    if (bar0_.bytes < bar0_bytes || !bar0_.readable || !bar0_.writable)
        fail(ENODEV, "VFIO: BAR0 of " + std::to_string(bar0_.bytes) + " bytes is not that of a virtual function");
    const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    for (const RegionArea& area : bar0_.mappable) {
        // What is left over at the borders goes by pread and pwrite.
        const std::uint64_t begin = (area.offset + page_bytes - 1) / page_bytes * page_bytes;
        const std::uint64_t end = (area.offset + area.bytes) / page_bytes * page_bytes;
        if (begin >= end) continue;
        windows_.push_back(
            {begin, end - begin,
             mem::GuardedMapping(device_.get(), end - begin, bar0_.file_offset + begin, mem::Access::read_write)});
    }
}

/// An interrupt that VFIO itself raises, if this function has it.
void VfioDevice::watch(unsigned interrupt, const mem::EventFd& event) {
    vfio_irq_info info{};
    info.argsz = sizeof(info);
    info.index = interrupt;
    if (::ioctl(device_.get(), VFIO_DEVICE_GET_IRQ_INFO, &info) != 0 || info.count == 0) return;
    const int eventfd = event.get();
    set_irqs(interrupt, {&eventfd, 1}, "VFIO_DEVICE_SET_IRQS (errors and requests)");
    epoll_event wanted{.events = EPOLLIN, .data = {.fd = eventfd}};
    if (::epoll_ctl(attention_.get(), EPOLL_CTL_ADD, eventfd, &wanted) != 0) mem::throw_errno("epoll_ctl");
}

Attention VfioDevice::attention() const {
    if (request_.drain()) return Attention::wanted_back;
    if (error_.drain()) return Attention::bus_error;
    return Attention::none;
}

std::uint32_t* VfioDevice::mapped(std::uint32_t offset) const {
    for (const Window& window : windows_)
        if (offset >= window.offset && offset - window.offset < window.bytes)
            return reinterpret_cast<std::uint32_t*>(window.mapping.data() + (offset - window.offset));
    return nullptr;
}

void VfioDevice::expect_alive() const {
    if (std::ranges::any_of(windows_, [](const Window& window) { return window.mapping.lost(); }))
        fail(ENODEV, "VFIO: the function's memory was switched off under us");
}

std::uint32_t VfioDevice::load(std::uint32_t offset) {
    const volatile std::uint32_t* const place = mapped(offset);
    if (place == nullptr) return read_at<std::uint32_t>(device_.get(), bar0_.file_offset + offset, "BAR0");
    const std::uint32_t value = *place;
    expect_alive();
    return value;
}

void VfioDevice::store(std::uint32_t offset, std::uint32_t value) {
    volatile std::uint32_t* const place = mapped(offset);
    if (place == nullptr) return write_at(device_.get(), bar0_.file_offset + offset, value, "BAR0");
    *place = value;
    expect_alive();
}

std::uint16_t VfioDevice::read_config(std::uint32_t offset) {
    return read_at<std::uint16_t>(device_.get(), config_.file_offset + offset, "configuration space");
}

void VfioDevice::write_config(std::uint32_t offset, std::uint16_t value) {
    write_at(device_.get(), config_.file_offset + offset, value, "configuration space");
}

Doorbell VfioDevice::doorbell(std::uint32_t offset) {
    if (std::uint32_t* const place = mapped(offset)) return Doorbell(place);
    return Doorbell(Doorbell::DeviceFile{device_.get(), bar0_.file_offset + offset});
}

void VfioDevice::set_interrupts(std::span<const int> eventfds) {
    // The kernel replaces eventfds in place, but their number only by way of none; and it takes none only from some.
    if (vectors_ != 0 && vectors_ != eventfds.size()) {
        set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, {}, "VFIO_DEVICE_SET_IRQS");
        vectors_ = 0;
    }
    if (eventfds.empty()) return;
    set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, eventfds, "VFIO_DEVICE_SET_IRQS");
    vectors_ = eventfds.size();
}

void VfioDevice::set_irqs(unsigned index, std::span<const int> eventfds, const char* name) {
    const std::uint32_t data = eventfds.empty() ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD;
    const vfio_irq_set head{.argsz = static_cast<std::uint32_t>(sizeof(vfio_irq_set) + eventfds.size_bytes()),
                            .flags = VFIO_IRQ_SET_ACTION_TRIGGER | data,
                            .index = index,
                            .start = 0,
                            .count = static_cast<std::uint32_t>(eventfds.size())};
    std::vector<std::byte> request(head.argsz);
    std::memcpy(request.data(), &head, sizeof(head));
    std::ranges::copy(std::as_bytes(eventfds), request.begin() + sizeof(head));
    vfio_call(device_.get(), VFIO_DEVICE_SET_IRQS, request.data(), name);
}

void VfioDevice::reset() {
    if (!can_reset_) fail(ENOTSUP, "VFIO_DEVICE_RESET: the function cannot be reset");
    // EAGAIN: somebody else has the function's lock, as an administrator who resets it by sysfs.
    SteadyClock clock;
    int error = 0;
    wait_until(clock, reset_limit, 10ms, [&] {
        error = ::ioctl(device_.get(), VFIO_DEVICE_RESET) == 0 ? 0 : errno;
        return error != EAGAIN;
    });
    if (error != 0) fail(error, "VFIO_DEVICE_RESET");
}

}  // namespace vitrine::driver
