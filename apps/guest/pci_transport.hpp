#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "apps/guest/device_ram.hpp"
#include "apps/guest/pci_function.hpp"
#include "apps/guest/transport.hpp"
#include "apps/guest/virtio_pci.hpp"
#include "mem/mapping.hpp"

namespace vitrine::guest {

/// A virtio-net device on the PCI bus of the Linux guest that we run in (VIRTIO 1.3, 3.1 and 4.1). It tells us nothing
/// by itself: an interrupt would need a driver in the kernel.
class PciTransport : public Transport {
public:
    struct Place {
        std::string address;         ///< "0000:00:03.0"
        std::string ram_directory;   ///< on hugetlbfs
        std::string sysfs = "/sys";  ///< another one is for tests
    };
    /// How long a device may take to reset itself; a back-end has to stop its rings meanwhile.
    static constexpr std::chrono::milliseconds reset_limit{5000};

    /// Resets the device and negotiates. `wanted` are the virtio features to take if they are offered.
    PciTransport(const Place& place, std::uint64_t wanted);
    /// Leaves the device reset, without access to memory.
    ~PciTransport() override;

    GuestRam make_ram(std::size_t bytes, mem::Backing) override { return ram_.make(bytes); }
    void activate(const GuestRam& ram, std::span<RingEnd* const> rings) override;
    void deactivate(std::span<RingEnd* const> rings) override;

    bool keep(Clock::time_point now) override;
    bool calls() const noexcept override { return false; }
    int descriptor() const noexcept override { return -1; }

private:
    /// The registers of `window`, mapped. Throws std::system_error when the BAR is shorter.
    std::byte* map(const RegisterWindow& window);
    /// False: it did not in time.
    bool reset() noexcept;
    void negotiate(std::uint64_t wanted);
    void read_config();
    void describe_ring(unsigned index, const GuestRam& ram, RingEnd& ring);
    void add_status(std::uint8_t bit) noexcept;
    [[noreturn]] void fail(int error, const std::string& why) const;

    PciFunction function_;
    DeviceRam ram_;
    VirtioPciLayout layout_;
    std::array<mem::Mapping, pci_bars> bars_;
    volatile VirtioCommonConfig* common_ = nullptr;
    std::byte* notify_ = nullptr;
    Clock::time_point next_look_{};
};

}  // namespace vitrine::guest
