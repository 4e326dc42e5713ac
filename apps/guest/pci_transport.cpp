#include "apps/guest/pci_transport.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <system_error>
#include <thread>

#include "virtio/features.hpp"

namespace vitrine::guest {
namespace {

/// Each half on its own, as a device may want it (4.1.3.1).
void write_halves(volatile std::uint32_t (&where)[2], mem::GuestPhys address) {
    where[0] = static_cast<std::uint32_t>(address.raw);
    where[1] = static_cast<std::uint32_t>(address.raw >> 32);
}

}  // namespace

PciTransport::PciTransport(const Place& place, std::uint64_t wanted)
    : function_(place.address, place.sysfs), ram_(place.ram_directory, place.address) {
    const auto layout = find_virtio_registers(function_.config(), VirtioKind::net);
    if (!layout) fail(ENODEV, std::string(layout.error()));
    layout_ = *layout;
    function_.enable_memory();
    common_ = reinterpret_cast<volatile VirtioCommonConfig*>(map(layout_.common));
    notify_ = map(layout_.notify);
    if (!reset()) fail(ETIMEDOUT, "does not come out of its reset");
    negotiate(wanted);
    read_config();
}

PciTransport::~PciTransport() {
    try {
        if (reset()) function_.disable_bus_master();
    } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
        // It has been reset: that it still could write does not matter.
    }
}

std::byte* PciTransport::map(const RegisterWindow& window) {
    mem::Mapping& bar = bars_[window.bar];
    if (!bar) {
        const mem::FileDescriptor file = function_.open_bar(window.bar, O_RDWR);
        bar = mem::Mapping(file.get(), mem::file_bytes(file.get()), 0, mem::Access::read_write);
    }
    if (window.offset > bar.size() || window.bytes > bar.size() - window.offset)
        fail(EPROTO, "names registers beyond its BAR");
    return bar.data() + window.offset;
}

bool PciTransport::reset() noexcept {
    const auto deadline = Clock::now() + reset_limit;
    common_->device_status = 0;
    while (common_->device_status != 0) {
        if (Clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ram_.device_was_reset();
    return true;
}

void PciTransport::negotiate(std::uint64_t wanted) {
    add_status(device_status::acknowledge);
    add_status(device_status::driver);
    std::uint64_t offered = 0;
    for (std::uint32_t half = 0; half < 2; ++half) {
        common_->device_feature_select = half;
        offered |= std::uint64_t{common_->device_feature} << (32 * half);
    }
    if ((offered & virtio::feature::version_1) == 0) fail(ENOTSUP, "does not offer VERSION_1 (disable-modern=off)");
    features_ = offered & (wanted | virtio::feature::version_1);
    for (std::uint32_t half = 0; half < 2; ++half) {
        common_->driver_feature_select = half;
        common_->driver_feature = static_cast<std::uint32_t>(features_ >> (32 * half));
    }
    add_status(device_status::features_ok);
    if ((common_->device_status & device_status::features_ok) == 0)
        fail(ENOTSUP, "does not take our features (iommu_platform=on is not supported)");
}

/// What changes in there, the link's state, is not ours to read: so the generation (2.5.1) does not matter.
void PciTransport::read_config() {
    constexpr std::size_t needed = offsetof(virtio::NetConfig, rss_key_bytes);
    if (layout_.device.bytes < needed) return;
    const volatile std::byte* const registers = map(layout_.device);
    std::array<std::byte, needed> bytes{};
    for (std::size_t at = 0; at < needed; ++at) bytes[at] = registers[at];
    config_.emplace();
    std::memcpy(&*config_, bytes.data(), bytes.size());
}

void PciTransport::activate(const GuestRam& ram, std::span<RingEnd* const> rings) {
    function_.enable_bus_master();
    for (unsigned index = 0; index < rings.size(); ++index) describe_ring(index, ram, *rings[index]);
    add_status(device_status::driver_ok);
}

void PciTransport::describe_ring(unsigned index, const GuestRam& ram, RingEnd& ring) {
    common_->queue_select = static_cast<std::uint16_t>(index);
    const std::uint16_t most_entries = common_->queue_size;
    if (most_entries < ring.entries())
        fail(EINVAL, "has " + std::to_string(most_entries) + " entries at most in ring " + std::to_string(index) +
                         ", wanted are " + std::to_string(ring.entries()) + " (--queue-size)");
    common_->queue_size = ring.entries();
    common_->queue_vector = VirtioCommonConfig::no_vector;
    write_halves(common_->queue_descriptors, ram.address_of(ring.descriptors()));
    write_halves(common_->queue_driver, ram.address_of(ring.driver_area()));
    write_halves(common_->queue_device, ram.address_of(ring.device_area()));
    const std::uint64_t at = std::uint64_t{common_->queue_notify_offset} * layout_.notify_multiplier;
    if (at + sizeof(std::uint16_t) > layout_.notify.bytes) fail(EPROTO, "wants to be notified beyond its registers");
    ring.kick_by(reinterpret_cast<volatile std::uint16_t*>(notify_ + at), static_cast<std::uint16_t>(index));
    common_->queue_enable = 1;
}

void PciTransport::deactivate(std::span<RingEnd* const>) {
    if (!reset()) fail(ETIMEDOUT, "does not stop its rings");
}

bool PciTransport::keep(Clock::time_point now) {
    constexpr std::chrono::milliseconds pause{100};  // a read is an exit to the VMM
    if (now < next_look_) return true;
    next_look_ = now + pause;
    const std::uint8_t status = common_->device_status;
    return status != device_status::unplugged && (status & device_status::needs_reset) == 0;
}

void PciTransport::add_status(std::uint8_t bit) noexcept {
    common_->device_status = static_cast<std::uint8_t>(common_->device_status | bit);
}

void PciTransport::fail(int error, const std::string& why) const {
    throw std::system_error(error, std::generic_category(), function_.address() + ": the device " + why);
}

}  // namespace vitrine::guest
