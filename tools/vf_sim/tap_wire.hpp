#pragma once

#include <array>
#include <string>

#include "mem/file_descriptor.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::vf_sim {

/// A tap device, made if it is not there. A frame that the VF cannot take is read and dropped, as the NIC does.
class TapWire final : public Wire {
public:
    /// Throws std::system_error naming the device.
    explicit TapWire(const std::string& name);

    std::span<const std::byte> next(Time now, const mem::EthernetAddress& station) override;
    void take() override { head_ = {}; }
    bool waits() const override { return false; }
    bool starts_when_ready() const override { return false; }
    bool done() const override { return true; }
    void transmit(std::span<const std::byte> frame) override;
    int descriptor() const override { return tap_.get(); }
    void report(nlohmann::json& status) const override;

private:
    mem::FileDescriptor tap_;
    std::array<std::byte, most_frame_bytes> frame_;
    std::span<const std::byte> head_;
    std::uint64_t refused_ = 0;  // by the kernel: the device is down or its queue full
};

}  // namespace vitrine::vf_sim
