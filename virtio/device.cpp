#include "virtio/device.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

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
      bases_(2u * config.pairs),
      stopped_pages_(config.pairs),
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
    if (config_.packed) offer |= feature::ring_packed;
    if (lending_ != nullptr) offer |= vrx::feature;
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
    const auto event_part = [&](std::uint64_t address) {
        return part(address, sizeof(EventSuppression), event_suppression_alignment);
    };
    const vhost_user::VringAddress& address = *vring.address;
    const RingMemory where{
        .entries = static_cast<std::uint16_t>(entries),
        .descriptors = part(address.descriptors, descriptor_table_bytes(entries), descriptor_table_alignment),
        .available = packed() ? event_part(address.available)
                              : part(address.available, available_ring_bytes(entries), available_ring_alignment),
        .used =
            packed() ? event_part(address.used) : part(address.used, used_ring_bytes(entries), used_ring_alignment)};
    if (where.descriptors == nullptr || where.available == nullptr || where.used == nullptr) return std::nullopt;
    return where;
}

void Device::set_features(std::uint64_t features) {
    const bool were_packed = packed();
    features_ = features;
    if (packed() == were_packed) return;
    std::ranges::fill(bases_, std::nullopt);
    std::ranges::fill(stopped_pages_, std::nullopt);
}

bool Device::packed() const {
    return (features_ & feature::ring_packed) != 0;
}

bool Device::valid_entries(std::uint32_t entries) const {
    return packed() ? valid_packed_entries(entries) : valid_ring_entries(entries);
}

bool Device::start(unsigned ring) {
    if (running(ring) || !should_run(ring)) return true;
    Vring& vring = vrings_[ring];
    if (!valid_entries(vring.entries)) return false;
    const std::optional<RingMemory> where = translate(vring);
    if (!where) return false;
    const RingFeatures features{.indirect = (features_ & feature::indirect_desc) != 0,
                                .event_index = (features_ & feature::event_idx) != 0};
    if (!packed())
        start_split(ring, *where, features);
    else if (!start_packed(ring, *where, features))
        return false;
    vring.base.reset();
    // Polled until the poll thread wants to sleep.
    if (receives(ring))
        receive_[ring / 2]->want_kicks(false);
    else
        transmit_[ring / 2]->want_kicks(false);
    refresh_events(ring);
    // What an earlier process used may never have been announced: the driver looks once, and no interrupt is lost.
    owe_call(ring);
    return true;
}

ReceiveRing::Terms Device::terms(unsigned pair) const {
    return {.mergeable = (features_ & feature::mrg_rxbuf) != 0,
            .packed_pages = (features_ & vrx::feature) != 0,
            .lending = lending_,
            .queue = pair};
}

void Device::start_transmit(unsigned ring, auto device_ring) {
    transmit_[ring / 2].emplace(
        memory_, std::move(device_ring), config_.mtu + config_.frame_overhead_bytes,
        vrings_[ring].enabled == Enabled::yes ? TransmitRing::Mode::send : TransmitRing::Mode::discard,
        transmit_counters_[ring / 2]);
}

void Device::start_split(unsigned ring, const RingMemory& where, RingFeatures features) {
    const unsigned pair = ring / 2;
    if (receives(ring))
        receive_[pair].emplace(memory_, DeviceRing(memory_, where, features, {}, receive_counters_[pair]), terms(pair),
                               receive_counters_[pair]);
    else
        start_transmit(ring, DeviceRing(memory_, where, features, {}, transmit_counters_[pair]));
    if (vrings_[ring].base && *vrings_[ring].base != base(ring)) ++session_counters_.base_differs;
}

bool Device::start_packed(unsigned ring, const RingMemory& where, RingFeatures features) {
    const unsigned pair = ring / 2;
    const std::uint32_t raw = base(ring);
    const bool goes_on =
        receives(ring) && terms(pair).packed_pages && stopped_pages_[pair] && raw == stopped_pages_[pair]->base;
    PackedBase place = PackedBase::of(raw);
    if (place.available.slot >= where.entries || place.used.slot >= where.entries) return false;
    if (!goes_on && raw >> 16 == 0) {
        place.used = place.available;  // DPDK's front-end fills in this half alone
    } else if (!goes_on && place.available != place.used) {
        ++session_counters_.base_differs;  // what was read and not used is not done
        place.available = place.used;
    }
    if (!receives(ring)) {
        start_transmit(ring, PackedDeviceRing(memory_, where, features, {}, transmit_counters_[pair], place));
        return true;
    }
    const auto most_pages = goes_on ? std::optional(stopped_pages_[pair]->most_pages_of_frame) : std::nullopt;
    stopped_pages_[pair].reset();
    receive_[pair].emplace(memory_, PackedDeviceRing(memory_, where, features, {}, receive_counters_[pair], place),
                           terms(pair), most_pages, receive_counters_[pair]);
    return true;
}

void Device::stop(unsigned ring) noexcept {
    if (!running(ring)) return;
    const unsigned pair = ring / 2;
    if (receives(ring)) {
        receive_[pair]->show();
        bases_[ring] = receive_[pair]->base();
        if (const auto most_pages = receive_[pair]->packed_pages_of_frame())
            stopped_pages_[pair] = {*bases_[ring], *most_pages};
        receive_[pair].reset();
    } else {
        transmit_[pair]->show();
        bases_[ring] = transmit_[pair]->base();
        transmit_[pair].reset();
    }
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
    if (TransmitRing* const queue = receives(ring) ? nullptr : transmit(ring / 2)) queue->set_events(events);
}

std::uint32_t Device::base(unsigned ring) const {
    if (!running(ring)) return bases_[ring].value_or(packed() ? PackedBase{}.raw() : 0);
    return receives(ring) ? receive_[ring / 2]->base() : transmit_[ring / 2]->base();
}

void Device::disconnect() {
    for (Vring& vring : vrings_) vring = {};
    std::ranges::fill(bases_, std::nullopt);
    std::ranges::fill(stopped_pages_, std::nullopt);
    memory_ = {};
    features_ = 0;
    protocol_features_ = 0;
    status_ = 0;
}

}  // namespace vitrine::virtio
