#include "apps/guest/virtio_pci.hpp"

#include <cstring>
#include <utility>

namespace vitrine::guest {
namespace {

using Config = std::span<const std::byte, pci_config_bytes>;

template <class T>
T read(Config config, std::size_t at) {
    T value;
    std::memcpy(&value, config.data() + at, sizeof(value));
    return value;
}

/// virtio_pci_cap (4.1.4), of which only the notify kind is longer.
struct Capability {
    std::uint8_t id;
    std::uint8_t next;
    std::uint8_t bytes;
    std::uint8_t kind;
    std::uint8_t bar;
    std::uint8_t instance;
    std::uint8_t padding[2];
    std::uint32_t offset;
    std::uint32_t length;

    static constexpr std::uint8_t vendor_specific = 0x09;
    static constexpr std::uint8_t common = 1;
    static constexpr std::uint8_t notify = 2;
    static constexpr std::uint8_t device = 4;
};
static_assert(sizeof(Capability) == 16);

}  // namespace

std::expected<VirtioPciLayout, std::string_view> find_virtio_registers(Config config, VirtioKind kind) {
    constexpr std::uint16_t red_hat = 0x1af4, modern = 0x1040, transitional_net = 0x1000;
    const auto device = read<std::uint16_t>(config, 2);
    const bool is_transitional = kind == VirtioKind::net && device == transitional_net;
    if (read<std::uint16_t>(config, 0) != red_hat || (device != modern + std::to_underlying(kind) && !is_transitional))
        return std::unexpected(kind == VirtioKind::net ? "is no virtio network device" : "is no virtio-pmem device");

    constexpr std::size_t status = 6, first_capability = 0x34, header_bytes = 0x40;
    constexpr std::uint16_t has_capabilities = 1u << 4;
    constexpr std::size_t most_capabilities = (pci_config_bytes - header_bytes) / 4;
    VirtioPciLayout layout;
    std::size_t at = 0;
    if (read<std::uint16_t>(config, status) & has_capabilities) at = read<std::uint8_t>(config, first_capability);
    for (std::size_t count = 0; count < most_capabilities; ++count) {
        at &= ~std::size_t{3};
        if (at < header_bytes || at + sizeof(Capability) > pci_config_bytes) break;
        const auto capability = read<Capability>(config, at);
        const std::size_t place = at;
        at = capability.next;
        if (capability.id != Capability::vendor_specific || capability.bytes < sizeof(Capability)) continue;
        if (capability.bar >= pci_bars || capability.length == 0) continue;  // reserved values are to be ignored
        const RegisterWindow window{capability.bar, capability.offset, capability.length};
        // Of several of a kind the first one counts: the device lists them by preference.
        if (capability.kind == Capability::common && layout.common.bytes == 0) layout.common = window;
        if (capability.kind == Capability::device && layout.device.bytes == 0) layout.device = window;
        if (capability.kind == Capability::notify && layout.notify.bytes == 0 &&
            capability.bytes >= sizeof(Capability) + sizeof(layout.notify_multiplier) &&
            place + sizeof(Capability) + sizeof(layout.notify_multiplier) <= pci_config_bytes) {
            layout.notify = window;
            layout.notify_multiplier = read<std::uint32_t>(config, place + sizeof(Capability));
        }
    }
    if (layout.common.bytes < sizeof(VirtioCommonConfig) || layout.common.offset % 4 != 0 || layout.notify.bytes == 0 ||
        layout.notify.offset % 2 != 0 || layout.notify_multiplier % 2 != 0)
        return std::unexpected("has not the registers of a modern virtio device");
    return layout;
}

}  // namespace vitrine::guest
