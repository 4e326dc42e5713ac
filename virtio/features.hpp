#pragma once

#include <cstdint>

/// Feature bits that a driver and this device may agree on (VIRTIO 1.3, 5.1.3 and 6).
namespace vitrine::virtio::feature {

constexpr std::uint64_t bit(unsigned number) {
    return std::uint64_t{1} << number;
}

inline constexpr std::uint64_t mtu = bit(3);
inline constexpr std::uint64_t mac = bit(5);
inline constexpr std::uint64_t mrg_rxbuf = bit(15);
inline constexpr std::uint64_t status = bit(16);
inline constexpr std::uint64_t ctrl_vq = bit(17);  ///< the queue itself stays with the front-end
inline constexpr std::uint64_t mq = bit(22);
inline constexpr std::uint64_t indirect_desc = bit(28);
inline constexpr std::uint64_t event_idx = bit(29);
inline constexpr std::uint64_t protocol_features = bit(30);  ///< vhost-user's own, never the guest's
inline constexpr std::uint64_t version_1 = bit(32);
inline constexpr std::uint64_t ring_packed = bit(34);
inline constexpr std::uint64_t in_order = bit(35);

}  // namespace vitrine::virtio::feature
