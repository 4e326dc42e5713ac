#include "apps/guest/pmem_range.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <system_error>

#include "mem/mapping.hpp"

namespace vitrine::guest {

PhysicalRange pmem_range(PciFunction& function) {
    const auto fail = [&](std::string_view why) {
        throw std::system_error(EPROTO, std::generic_category(),
                                function.address() + ": the device " + std::string(why));
    };
    const auto layout = find_virtio_registers(function.config(), VirtioKind::pmem);
    if (!layout) fail(layout.error());
    function.enable_memory();
    const mem::FileDescriptor file = function.open_bar(layout->device.bar, O_RDONLY);
    const mem::Mapping bar(file.get(), mem::file_bytes(file.get()), 0, mem::Access::read_only);
    PhysicalRange range;
    const std::size_t at = layout->device.offset;
    if (layout->device.bytes < sizeof(range) || at % sizeof(std::uint32_t) != 0 || at > bar.size() ||
        sizeof(range) > bar.size() - at)
        fail("names no range of memory");
    // By halves, which every device allows (4.1.3.1).
    const auto* const registers = reinterpret_cast<const volatile std::uint32_t*>(bar.data() + at);
    range.start = registers[0] | std::uint64_t{registers[1]} << 32;
    range.bytes = registers[2] | std::uint64_t{registers[3]} << 32;
    return range;
}

}  // namespace vitrine::guest
