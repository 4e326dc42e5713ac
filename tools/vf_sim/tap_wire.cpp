#include "tools/vf_sim/tap_wire.hpp"

#include <algorithm>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace vitrine::vf_sim {

TapWire::TapWire(const std::string& name) : tap_(mem::open("/dev/net/tun", O_RDWR | O_NONBLOCK)) {
    ifreq request{};
    if (name.empty() || name.size() >= sizeof(request.ifr_name))
        throw std::invalid_argument("tap:" + name + ": a device name has 1 to 15 letters");
    std::ranges::copy(name, request.ifr_name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(tap_.get(), TUNSETIFF, &request) != 0) mem::throw_errno("tap device " + name);
}

std::span<const std::byte> TapWire::next(Time, const mem::EthernetAddress&) {
    constexpr std::size_t least_bytes = 60;
    if (!head_.empty()) return head_;
    const ssize_t got = ::read(tap_.get(), frame_.data(), frame_.size());
    if (got < 14) return {};
    auto bytes = static_cast<std::size_t>(got);
    if (bytes < least_bytes) {  // the kernel leaves padding to the hardware
        std::fill(frame_.begin() + got, frame_.begin() + least_bytes, std::byte{0});
        bytes = least_bytes;
    }
    head_ = std::span(frame_).first(bytes);
    return head_;
}

void TapWire::transmit(std::span<const std::byte> frame) {
    if (::write(tap_.get(), frame.data(), frame.size()) < 0) ++refused_;
}

void TapWire::report(nlohmann::json& status) const {
    status["wire"]["kind"] = "tap";
    status["wire"]["refused_by_kernel"] = refused_;
}

}  // namespace vitrine::vf_sim
