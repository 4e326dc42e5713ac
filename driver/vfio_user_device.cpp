#include "driver/vfio_user_device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <optional>
#include <string_view>
#include <unistd.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "driver/failure.hpp"
#include "driver/registers.hpp"
#include "mem/socket.hpp"
#include "mem/vfio_user.hpp"

namespace vitrine::driver {

namespace wire = mem::vfio_user;
using mem::bytes_of;
using wire::Command;

namespace {

constexpr std::size_t most_version_bytes = 4096;
constexpr std::uint32_t most_region_info_bytes = 4096;
constexpr std::uint64_t tails_begin = VFRDBAL::at(0);  // page 1 and 2: below are side effects, above RSS
constexpr std::uint64_t tails_end = 0x3000;

/// A T at `offset` of what the server sent, if it is all there.
template <class T>
std::optional<T> value_at(std::span<const std::byte> payload, std::size_t offset) {
    if (offset > payload.size() || payload.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, payload.data() + offset, sizeof(T));
    return value;
}

bool is_tail(std::uint32_t offset) {
    const std::uint32_t queue = offset % 0x1000 / queue_stride;
    return queue < queue_slots && (offset == VFRDT::at(queue) || offset == VFTDT::at(queue));
}

/// Which parts of BAR0 may be mapped: all of it, unless a sparse-mmap capability names areas.
std::vector<wire::SparseArea> mappable_areas(std::span<const std::byte> payload, const wire::RegionInfo& info) {
    std::uint32_t offset = (info.flags & wire::region_has_caps) != 0 ? info.cap_offset : 0;
    for (int steps = 0; offset != 0 && steps < 16; ++steps) {
        const auto cap = value_at<wire::SparseMmapCap>(payload, offset);
        if (!cap) fail(EPROTO, "vfio-user BAR0: a capability lies outside of the answer");
        if (cap->id != wire::sparse_mmap_cap_id) {
            offset = cap->next;
            continue;
        }
        std::vector<wire::SparseArea> areas;
        for (std::size_t index = 0; index < cap->areas; ++index) {
            const auto area =
                value_at<wire::SparseArea>(payload, offset + sizeof(*cap) + index * sizeof(wire::SparseArea));
            if (!area) fail(EPROTO, "vfio-user BAR0: mappable areas lie outside of the answer");
            areas.push_back(*area);
        }
        return areas;
    }
    return {{.offset = 0, .size = info.size}};
}

}  // namespace

VfioUserDevice::VfioUserDevice(const std::string& path, std::chrono::milliseconds limit)
    : VfioUserDevice(mem::connect_unix(path), limit) {}

VfioUserDevice::VfioUserDevice(mem::FileDescriptor socket, std::chrono::milliseconds limit)
    : connection_(std::move(socket), limit) {
    negotiate();
    check_is_pci_function();
    open_bar0();
}

void VfioUserDevice::negotiate() {
    const wire::Version ours{.major = 0, .minor = 0};
    const std::string capabilities = R"({"capabilities":{"max_msg_fds":8,"pgsizes":4096}})";
    const auto reply =
        connection_.call("VERSION", Command::version,
                         {bytes_of(ours), std::as_bytes(std::span(capabilities.c_str(), capabilities.size() + 1))}, {},
                         sizeof(wire::Version), most_version_bytes);
    const auto theirs = value_at<wire::Version>(reply.payload, 0);
    if (theirs->major != ours.major || theirs->minor > ours.minor)
        fail(EPROTONOSUPPORT, "vfio-user VERSION: the server speaks " + std::to_string(theirs->major) + "." +
                                  std::to_string(theirs->minor) + ", we speak 0.0");

    const std::string_view text(reinterpret_cast<const char*>(reply.payload.data()) + sizeof(wire::Version),
                                reply.payload.size() - sizeof(wire::Version));
    if (text.empty()) return;
    const auto json = nlohmann::json::parse(text.substr(0, text.find('\0')), nullptr, false);
    if (!json.is_object()) fail(EPROTO, "vfio-user VERSION: the server's capabilities are no JSON object");
    const nlohmann::json::json_pointer most_descriptors("/capabilities/max_msg_fds");
    if (json.contains(most_descriptors) && json[most_descriptors].is_number_unsigned())
        most_descriptors_ = json[most_descriptors].get<std::size_t>();
}

void VfioUserDevice::check_is_pci_function() {
    const wire::DeviceInfo request{.argsz = sizeof(request), .flags = 0, .regions = 0, .irqs = 0};
    const auto reply = connection_.call("DEVICE_GET_INFO", Command::device_get_info, {bytes_of(request)}, {},
                                        sizeof(wire::DeviceInfo), sizeof(wire::DeviceInfo));
    const auto info = value_at<wire::DeviceInfo>(reply.payload, 0);
    if ((info->flags & wire::device_is_pci) == 0 || info->regions <= wire::config_region ||
        info->irqs <= wire::msix_irq)
        fail(ENODEV, "vfio-user DEVICE_GET_INFO: the server offers no PCI function with MSI-X");
}

VfioUserConnection::Reply VfioUserDevice::region_info(std::uint32_t region, std::uint32_t most_bytes) {
    const wire::RegionInfo request{
        .argsz = most_bytes, .flags = 0, .index = region, .cap_offset = 0, .size = 0, .offset = 0};
    return connection_.call("DEVICE_GET_REGION_INFO", Command::device_get_region_info, {bytes_of(request)}, {},
                            sizeof(wire::RegionInfo), most_bytes);
}

void VfioUserDevice::open_bar0() {
    auto reply = region_info(wire::bar0_region, sizeof(wire::RegionInfo));
    auto info = *value_at<wire::RegionInfo>(reply.payload, 0);
    if (info.argsz > sizeof(wire::RegionInfo) && info.argsz <= most_region_info_bytes) {
        reply = region_info(wire::bar0_region, info.argsz);
        info = *value_at<wire::RegionInfo>(reply.payload, 0);
    }
    constexpr std::uint32_t both = wire::region_readable | wire::region_writable;
    if (info.size < bar0_bytes || (info.flags & both) != both)
        fail(ENODEV, "vfio-user BAR0: " + std::to_string(info.size) + " bytes, not that of a virtual function");
    if ((info.flags & wire::region_mappable) != 0 && !reply.descriptors.empty()) map_tails(reply, info);
}

void VfioUserDevice::map_tails(const VfioUserConnection::Reply& reply, const wire::RegionInfo& info) {
    const int file = reply.descriptors.front().get();
    const int seals = ::fcntl(file, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return;
    const std::uint64_t file_bytes = mem::file_bytes(file);
    const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));

    for (const wire::SparseArea& area : mappable_areas(reply.payload, info)) {
        if (area.offset > info.size || area.size > info.size - area.offset)
            fail(EPROTO, "vfio-user BAR0: a mappable area lies outside of the region");
        const std::uint64_t begin = std::max(area.offset, tails_begin);
        const std::uint64_t end = std::min(area.offset + area.size, tails_end);
        if (begin >= end) continue;
        if (info.offset > file_bytes || end > file_bytes - info.offset || (info.offset + begin) % page_bytes != 0)
            fail(EPROTO, "vfio-user BAR0: a mappable area lies outside of its file");
        tails_.push_back({begin, mem::Mapping(file, end - begin, info.offset + begin, mem::Access::read_write)});
    }
}

std::uint32_t VfioUserDevice::load(std::uint32_t offset) {
    std::uint32_t value = 0;
    read_region(wire::bar0_region, offset, mem::writable_bytes_of(value));
    return value;
}

void VfioUserDevice::store(std::uint32_t offset, std::uint32_t value) {
    write_region(wire::bar0_region, offset, bytes_of(value));
}

std::uint16_t VfioUserDevice::read_config(std::uint32_t offset) {
    std::uint16_t value = 0;
    read_region(wire::config_region, offset, mem::writable_bytes_of(value));
    return value;
}

void VfioUserDevice::write_config(std::uint32_t offset, std::uint16_t value) {
    write_region(wire::config_region, offset, bytes_of(value));
}

void VfioUserDevice::read_region(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) {
    const wire::RegionAccess request{
        .offset = offset, .region = region, .count = static_cast<std::uint32_t>(out.size())};
    const std::size_t bytes = sizeof(request) + out.size();
    const auto reply = connection_.call("REGION_READ", Command::region_read, {bytes_of(request)}, {}, bytes, bytes);
    std::ranges::copy(std::span(reply.payload).subspan(sizeof(request)), out.begin());
}

void VfioUserDevice::write_region(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> bytes) {
    const wire::RegionAccess request{
        .offset = offset, .region = region, .count = static_cast<std::uint32_t>(bytes.size())};
    connection_.call("REGION_WRITE", Command::region_write, {bytes_of(request), bytes}, {}, sizeof(request),
                     sizeof(request));
}

Doorbell VfioUserDevice::doorbell(std::uint32_t offset) {
    for (const Tails& tails : tails_) {
        const bool inside = offset >= tails.offset && offset - tails.offset < tails.mapping.size();
        if (inside && is_tail(offset))
            return Doorbell(reinterpret_cast<std::uint32_t*>(tails.mapping.data() + (offset - tails.offset)));
    }
    return Doorbell(connection_.descriptor(), offset);
}

void VfioUserDevice::map_dma(mem::Iova iova, const DmaMemory& memory, DmaAccess access) {
    const std::uint32_t flags =
        access == DmaAccess::device_reads ? wire::dma_readable : wire::dma_readable | wire::dma_writable;
    const wire::DmaMap request{.argsz = sizeof(request),
                               .flags = flags,
                               .offset = memory.file_offset,
                               .address = iova.raw,
                               .size = memory.host.size()};
    connection_.call("DMA_MAP", Command::dma_map, {bytes_of(request)}, {&memory.file, 1}, 0, 0);
}

void VfioUserDevice::unmap_dma(mem::Iova iova, std::size_t bytes) {
    const wire::DmaUnmap request{.argsz = sizeof(request), .flags = 0, .address = iova.raw, .size = bytes};
    connection_.call("DMA_UNMAP", Command::dma_unmap, {bytes_of(request)}, {}, 0, sizeof(request));
}

void VfioUserDevice::set_interrupts(std::span<const int> eventfds) {
    if (eventfds.size() > most_descriptors_)
        fail(E2BIG, "vfio-user DEVICE_SET_IRQS: " + std::to_string(eventfds.size()) +
                        " vectors, but the server takes " + std::to_string(most_descriptors_) +
                        " descriptors a message");
    const std::uint32_t data = eventfds.empty() ? wire::irq_data_none : wire::irq_data_eventfd;
    const wire::IrqSet request{.argsz = sizeof(request),
                               .flags = data | wire::irq_action_trigger,
                               .index = wire::msix_irq,
                               .start = 0,
                               .count = static_cast<std::uint32_t>(eventfds.size())};
    connection_.call("DEVICE_SET_IRQS", Command::device_set_irqs, {bytes_of(request)}, eventfds, 0, 0);
}

void VfioUserDevice::reset() {
    connection_.call("DEVICE_RESET", Command::device_reset, {}, {}, 0, 0);
}

}  // namespace vitrine::driver
