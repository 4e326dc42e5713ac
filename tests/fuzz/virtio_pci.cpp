// A virtio device's configuration space: whatever it holds, what is found lies in a BAR and can be used as it is.

#include "apps/guest/virtio_pci.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace vitrine::guest;
    std::array<std::byte, pci_config_bytes> config{};
    if (size != 0) std::memcpy(config.data(), data, size < config.size() ? size : config.size());
    const auto layout = find_virtio_registers(config, VirtioKind::net);
    if (!layout) return 0;
    const bool usable = layout->common.bytes >= sizeof(VirtioCommonConfig) && layout->common.bar < pci_bars &&
                        layout->notify.bytes != 0 && layout->notify.bar < pci_bars && layout->device.bar < pci_bars &&
                        layout->common.offset % 4 == 0 && (layout->notify.offset | layout->notify_multiplier) % 2 == 0;
    if (!usable) std::abort();
    return 0;
}
