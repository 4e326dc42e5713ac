#include "virtio/device.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

#include "virtio/features.hpp"

namespace vitrine::virtio {

namespace {

bool aligned(const std::byte* pointer, std::size_t alignment) {
    return std::bit_cast<std::uintptr_t>(pointer) % alignment == 0;
}

}  // namespace

Device::Device(const DeviceConfig& config)
    : config_(config),
      vrings_(2u * config.pairs),
      used_index_(2u * config.pairs),
      receive_counters_(config.pairs),
      transmit_counters_(config.pairs),
      receive_(config.pairs),
      transmit_(config.pairs) {
    assert(config.pairs >= 1 && config.pairs <= 128);
}

std::uint64_t Device::offered_features() const {
    std::uint64_t offer = feature::mtu | feature::mac | feature::mrg_rxbuf | feature::status | feature::indirect_desc |
                          feature::event_idx | feature::protocol_features | feature::version_1 | feature::in_order;
    // MQ needs the control queue. Front-ends that know MQ keep that queue to themselves.
    if (config_.pairs > 1) offer |= feature::mq | feature::ctrl_vq;
    return offer;
}

std::uint64_t Device::offered_protocol_features() {
    namespace protocol = vhost_user::protocol;
    return protocol::mq | protocol::reply_ack | protocol::net_mtu | protocol::config | protocol::reset_device |
           protocol::configure_mem_slots | protocol::status;
}

NetConfig Device::config_space() const {
    NetConfig space{};
    std::ranges::copy(config_.mac, space.mac);
    space.status = config_.link_up ? NetConfig::link_up : 0;
    space.most_pairs = static_cast<std::uint16_t>(config_.pairs);
    space.mtu = config_.mtu;
    space.speed_mbps = config_.speed_mbps;
    space.duplex = config_.speed_mbps == NetConfig::unknown_speed ? NetConfig::unknown_duplex : NetConfig::full_duplex;
    return space;
}

bool Device::running(unsigned ring) const {
    return receives(ring) ? receive_[ring / 2].has_value() : transmit_[ring / 2].has_value();
}

bool Device::should_run(unsigned ring) const {
    const Vring& vring = vrings_[ring];
    if (!vring.started || vring.entries == 0 || !vring.address) return false;
    if (vring.enabled != Enabled::no) return vring.enabled == Enabled::yes;
    // A disabled transmit ring is to be drained, says the protocol. cloud-hypervisor disables rings to pause the guest
    // and expects them untouched; it never negotiates these two, QEMU does.
    return !receives(ring) &&
           (protocol_features_ & (vhost_user::protocol::reset_device | vhost_user::protocol::status)) != 0;
}

std::optional<RingMemory> Device::translate(const Vring& vring) const {
    const auto part = [this](std::uint64_t address, std::size_t bytes, std::size_t alignment) {
        std::byte* const host = memory_.translate(mem::FrontendVirtual{address}, bytes);
        return aligned(host, alignment) ? host : nullptr;
    };
    const std::uint32_t entries = vring.entries;
    const RingMemory where{
        .entries = static_cast<std::uint16_t>(entries),
        .descriptors = part(vring.address->descriptors, descriptor_table_bytes(entries), descriptor_table_alignment),
        .available = part(vring.address->available, available_ring_bytes(entries), available_ring_alignment),
        .used = part(vring.address->used, used_ring_bytes(entries), used_ring_alignment)};
    if (where.descriptors == nullptr || where.available == nullptr || where.used == nullptr) return std::nullopt;
    return where;
}

bool Device::start(unsigned ring) {
    if (running(ring) || !should_run(ring)) return true;
    Vring& vring = vrings_[ring];
    const std::optional<RingMemory> where = translate(vring);
    if (!where) return false;

    const unsigned pair = ring / 2;
    const RingFeatures features{.indirect = (features_ & feature::indirect_desc) != 0,
                                .event_index = (features_ & feature::event_idx) != 0};
    const RingEvents events{};
    if (receives(ring)) {
        const DeviceRing split(memory_, *where, features, events, receive_counters_[pair]);
        receive_[pair].emplace(memory_, split, (features_ & feature::mrg_rxbuf) != 0, lending_, pair,
                               receive_counters_[pair]);
        receive_[pair]->want_kicks(false);  // polled until the poll thread wants to sleep
    } else {
        const DeviceRing split(memory_, *where, features, events, transmit_counters_[pair]);
        transmit_[pair].emplace(
            memory_, split, config_.mtu + config_.frame_overhead_bytes,
            vring.enabled == Enabled::yes ? TransmitQueue::Mode::send : TransmitQueue::Mode::discard,
            transmit_counters_[pair]);
        transmit_[pair]->want_kicks(false);
    }
    refresh_events(ring);
    if (vring.base && *vring.base != used_index(ring)) ++session_counters_.base_differs;
    vring.base.reset();
    // What an earlier process used may never have been announced: the driver looks once, and no interrupt is lost.
    owe_call(ring);
    return true;
}

void Device::stop(unsigned ring) noexcept {
    const auto halt = [&](auto& queue) {
        queue->show();
        used_index_[ring] = queue->used_index();
        queue.reset();
    };
    if (!running(ring)) return;
    if (receives(ring))
        halt(receive_[ring / 2]);
    else
        halt(transmit_[ring / 2]);
}

void Device::owe_call(unsigned ring) noexcept {
    const unsigned pair = ring / 2;
    if (receives(ring) && receive_[pair]) receive_[pair]->owe_call();
    if (!receives(ring) && transmit_[pair]) transmit_[pair]->owe_call();
}

void Device::refresh_events(unsigned ring) noexcept {
    const Vring& vring = vrings_[ring];
    const RingEvents events{.kick = vring.kick.get(), .call = vring.call.get(), .error = vring.error.get()};
    if (ReceiveRing* const queue = receives(ring) ? receive(ring / 2) : nullptr) queue->set_events(events);
    if (TransmitQueue* const queue = receives(ring) ? nullptr : transmit(ring / 2)) queue->set_events(events);
}

std::uint16_t Device::used_index(unsigned ring) const {
    if (!running(ring)) return used_index_[ring];
    return receives(ring) ? receive_[ring / 2]->used_index() : transmit_[ring / 2]->used_index();
}

void Device::disconnect() {
    for (Vring& vring : vrings_) vring = {};
    std::ranges::fill(used_index_, std::uint16_t{0});
    memory_ = {};
    features_ = 0;
    protocol_features_ = 0;
    status_ = 0;
}

}  // namespace vitrine::virtio
