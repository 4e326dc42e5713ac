/// The requests that describe, start and stop one ring.

#include <array>
#include <fcntl.h>
#include <limits>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "virtio/session.hpp"

namespace vitrine::virtio {

namespace wire = vhost_user;
using Counters = SessionCounters;

namespace {

/// True for an eventfd, made non-blocking. The front-end shares the open file and could clear the flag: reads do not
/// rely on it (mem::drain_event), and a write that waits because the counter is full is the poll thread's alone, whom
/// the next hold gets out of it (mem::Handover).
bool accept_event(const mem::FileDescriptor& file) {
    std::array<char, 64> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(file.get());
    if (::readlink(link.c_str(), target.data(), target.size() - 1) <= 0) return false;
    if (std::string_view(target.data()) != "anon_inode:[eventfd]") return false;
    const int flags = ::fcntl(file.get(), F_GETFL);
    return flags >= 0 && ::fcntl(file.get(), F_SETFL, flags | O_NONBLOCK) == 0;
}

}  // namespace

void Session::stop_ring(unsigned ring) {
    if (!device_.running(ring)) return;
    hooks_.drain(ring);
    device_.stop(ring);
}

unsigned Session::stop_rings() {
    unsigned stopped = 0;
    for (unsigned ring = 0; ring < device_.rings(); ++ring) {
        if (device_.running(ring)) ++stopped;
        stop_ring(ring);
    }
    return stopped;
}

unsigned Session::start_rings() {
    unsigned started = 0;
    for (unsigned ring = 0; ring < device_.rings(); ++ring) {
        if (device_.running(ring)) continue;
        device_.start(ring);
        if (device_.running(ring)) ++started;
    }
    return started;
}

template <class Change>
Session::Answer Session::change_ring(unsigned ring, Change change) {
    const auto hold = hooks_.hold();
    stop_ring(ring);
    change(device_.vring(ring));
    if (device_.start(ring)) return {};
    device_.vring(ring).started = false;  // not in guest memory or not aligned; a base or size its kind has not
    return std::unexpected(&Counters::bad_region);
}

std::expected<unsigned, Session::Reason> Session::ring_of(const Message& message) const {
    const auto index = message.read<std::uint32_t>();  // all 32 bits count
    if (index >= device_.rings()) return std::unexpected(&Counters::bad_ring);
    return index;
}

std::expected<Session::RingFile, Session::Reason> Session::ring_file_of(Message& message) const {
    const auto value = message.read<std::uint64_t>();
    const std::uint64_t index = value & ~wire::vring_file_none;
    if (index >= device_.rings()) return std::unexpected(&Counters::bad_ring);
    const bool none = (value & wire::vring_file_none) != 0;
    if (message.descriptors.size() != (none ? 0u : 1u)) return std::unexpected(&Counters::bad_descriptors);
    RingFile result{.ring = static_cast<unsigned>(index), .file = {}};
    if (none) return result;
    if (!accept_event(message.descriptors.front())) return std::unexpected(&Counters::bad_descriptors);
    result.file = std::move(message.descriptors.front());
    return result;
}

Session::Answer Session::set_vring_num(Message& message) {
    const auto ring = ring_of(message);
    if (!ring) return std::unexpected(ring.error());
    const std::uint32_t entries = message.read<wire::VringState>().number;
    if (!device_.valid_entries(entries)) return std::unexpected(&Counters::bad_value);
    return change_ring(*ring, [&](Vring& vring) { vring.entries = entries; });
}

Session::Answer Session::set_vring_addr(Message& message) {
    const auto ring = ring_of(message);
    if (!ring) return std::unexpected(ring.error());
    const auto address = message.read<wire::VringAddress>();
    if (address.flags != 0) return std::unexpected(&Counters::bad_value);  // asks for a log that we do not offer
    return change_ring(*ring, [&](Vring& vring) { vring.address = address; });
}

Session::Answer Session::set_vring_base(Message& message) {
    const auto ring = ring_of(message);
    if (!ring) return std::unexpected(ring.error());
    const std::uint32_t base = message.read<wire::VringState>().number;
    if (!device_.packed() && base > std::numeric_limits<std::uint16_t>::max())
        return std::unexpected(&Counters::bad_value);
    device_.set_base(*ring, base);
    return {};
}

Session::Answer Session::get_vring_base(Message& message) {
    const auto ring = ring_of(message);
    if (!ring) return std::unexpected(ring.error());
    const auto hold = hooks_.hold();
    stop_ring(*ring);
    device_.vring(*ring).started = false;
    return reply_of(wire::VringState{.index = *ring, .number = device_.base(*ring)});
}

Session::Answer Session::set_vring_kick(Message& message) {
    auto file = ring_file_of(message);
    if (!file) return std::unexpected(file.error());
    return change_ring(file->ring, [&](Vring& vring) {
        vring.kick = std::move(file->file);
        vring.started = true;
    });
}

Session::Answer Session::set_vring_call(Message& message) {
    auto file = ring_file_of(message);
    if (!file) return std::unexpected(file.error());
    const auto hold = hooks_.hold();
    Vring& vring = device_.vring(file->ring);
    vring.call = std::move(file->file);
    device_.refresh_events(file->ring);
    // The driver may wait for an interrupt that went to the old eventfd.
    device_.owe_call(file->ring);
    return {};
}

Session::Answer Session::set_vring_err(Message& message) {
    auto file = ring_file_of(message);
    if (!file) return std::unexpected(file.error());
    const auto hold = hooks_.hold();
    device_.vring(file->ring).error = std::move(file->file);
    device_.refresh_events(file->ring);
    return {};
}

Session::Answer Session::set_vring_enable(Message& message) {
    const auto ring = ring_of(message);
    if (!ring) return std::unexpected(ring.error());
    const std::uint32_t number = message.read<wire::VringState>().number;
    if (number > 1) return std::unexpected(&Counters::bad_value);
    const Enabled wanted = number == 1 ? Enabled::yes : Enabled::no;
    if (device_.vring(*ring).enabled == wanted) return {};
    return change_ring(*ring, [&](Vring& vring) { vring.enabled = wanted; });
}

}  // namespace vitrine::virtio
