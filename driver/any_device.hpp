#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "driver/device.hpp"
#include "driver/pci_sysfs.hpp"
#include "driver/vf_place.hpp"
#include "driver/vfio_device.hpp"
#include "driver/vfio_user_device.hpp"

namespace vitrine::driver {

/// A virtual function behind whichever door its place names. A Device that moves; doorbells stay good.
class AnyDevice {
    template <class Call>
    decltype(auto) visit(Call&& call) const {
        return std::visit([&](const auto& door) -> decltype(auto) { return call(*door); }, door_);
    }

public:
    /// How long to wait for the other side: for each answer of a vfio-user server, or for a group that another process
    /// is about to let go. Throws std::system_error with the cause and the command that removes it.
    AnyDevice(const VfPlace& place, std::chrono::milliseconds limit, const PciSysfs& sysfs = PciSysfs{})
        : door_(open(place, limit, sysfs)) {}

    /// For people to read.
    const char* door_name() const {
        const auto* kernel = std::get_if<std::unique_ptr<VfioDevice>>(&door_);
        return kernel == nullptr ? "vfio-user" : (*kernel)->is_iommufd() ? "vfio, iommufd" : "vfio, group";
    }

    std::uint32_t load(std::uint32_t offset) {
        return visit([&](auto& door) { return door.load(offset); });
    }
    void store(std::uint32_t offset, std::uint32_t value) {
        visit([&](auto& door) { door.store(offset, value); });
    }
    std::uint16_t read_config(std::uint32_t offset) {
        return visit([&](auto& door) { return door.read_config(offset); });
    }
    void write_config(std::uint32_t offset, std::uint16_t value) {
        visit([&](auto& door) { door.write_config(offset, value); });
    }
    Doorbell doorbell(std::uint32_t offset) {
        return visit([&](auto& door) { return door.doorbell(offset); });
    }
    const std::vector<IovaRange>& iova_ranges() const {
        return visit([](auto& door) -> const auto& { return door.iova_ranges(); });
    }
    void map_dma(mem::Iova iova, const DmaMemory& memory, DmaAccess access) {
        visit([&](auto& door) { door.map_dma(iova, memory, access); });
    }
    void unmap_dma(mem::Iova iova, std::size_t bytes) {
        visit([&](auto& door) { door.unmap_dma(iova, bytes); });
    }
    void set_interrupts(std::span<const int> eventfds) {
        visit([&](auto& door) { door.set_interrupts(eventfds); });
    }
    void reset() {
        visit([](auto& door) { door.reset(); });
    }
    int descriptor() const {
        return visit([](auto& door) { return door.descriptor(); });
    }
    Attention attention() const {
        return visit([](auto& door) { return door.attention(); });
    }

private:
    using Door = std::variant<std::unique_ptr<VfioUserDevice>, std::unique_ptr<VfioDevice>>;

    static Door open(const VfPlace& place, std::chrono::milliseconds limit, const PciSysfs& sysfs) {
        if (const auto* socket = std::get_if<VfioUserSocket>(&place))
            return std::make_unique<VfioUserDevice>(socket->path, limit);
        const auto* pf = std::get_if<PfAndIndex>(&place);
        const std::string address = pf ? sysfs.address_of(*pf) : std::get<PciFunction>(place).address;
        return std::make_unique<VfioDevice>(sysfs, address, limit);
    }
    Door door_;
};

static_assert(Device<AnyDevice>);

}  // namespace vitrine::driver
