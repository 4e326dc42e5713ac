#pragma once

#include <atomic>
#include <cstdint>

namespace vitrine::driver {

/// A register that the poll thread writes and never reads: a ring tail, or the interrupt mask before it sleeps.
///
/// A store into the mapped BAR; or a posted vfio-user write: one send() that neither waits nor asks for a reply; or,
/// for a BAR that the kernel does not let us map, a write to the device's file. Belongs to one thread. Must not outlive
/// the device that made it. A dead peer makes it do nothing.
class Doorbell {
public:
    /// A register in the file of a VFIO device.
    struct DeviceFile {
        int descriptor;
        std::uint64_t offset;
    };

    explicit Doorbell(std::uint32_t* mapped) : mapped_(mapped) {}
    Doorbell(int vfio_user_socket, std::uint32_t bar0_offset) : descriptor_(vfio_user_socket), offset_(bar0_offset) {}
    explicit Doorbell(DeviceFile file) : descriptor_(file.descriptor), offset_(file.offset), is_file_(true) {}

    /// Everything written to memory before is visible to the device when it sees `value`.
    void ring(std::uint32_t value) noexcept {
        if (mapped_ != nullptr) {
            std::atomic_ref(*mapped_).store(value, std::memory_order_release);
        } else {
            value_ = value;
            post();
        }
    }
    /// Repeats a write that a full socket refused. Call it in idle rounds: costs one branch when there is none.
    void settle() noexcept {
        if (refused_) [[unlikely]]
            post();
    }
    /// The device was reset: what it refused to hear must not reach it any more.
    void forget() noexcept { refused_ = false; }
    /// False while a write waits for room in the socket: do not sleep then.
    bool settled() const noexcept { return !refused_; }

private:
    void post() noexcept;

    std::uint32_t* mapped_ = nullptr;
    int descriptor_ = -1;
    std::uint64_t offset_ = 0;
    std::uint32_t value_ = 0;
    bool is_file_ = false;
    bool refused_ = false;
};

}  // namespace vitrine::driver
