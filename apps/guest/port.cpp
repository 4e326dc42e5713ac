#include <algorithm>
#include <cstring>
#include <optional>
#include <poll.h>
#include <vitrine/port.hpp>

#include "apps/guest/find_region.hpp"
#include "apps/guest/frontend.hpp"
#include "apps/guest/guest_ram.hpp"
#include "apps/guest/net_port.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/pages_port.hpp"
#include "apps/guest/pci_transport.hpp"
#include "mem/socket.hpp"
#include "mem/test_frame.hpp"
#include "virtio/features.hpp"

namespace vitrine {
namespace {

namespace feature = virtio::feature;

constexpr unsigned ring_count = 2;
constexpr std::uint64_t wanted_features = feature::mac | feature::mtu | feature::status | feature::event_idx;
/// Between two looks at a device that does not call.
constexpr std::chrono::microseconds nap{100};

std::unique_ptr<guest::Transport> open_device(const Port::Options& options) {
    if (options.pci_address.empty())
        return std::make_unique<guest::Frontend>(guest::connect_to_backend(options.socket_path, options.patience),
                                                 wanted_features, ring_count);
    return std::make_unique<guest::PciTransport>(
        guest::PciTransport::Place{options.pci_address, mem::huge_page_mount("a port on PCI")}, wanted_features);
}

mem::EthernetAddress address_of(const guest::Transport& device) {
    mem::EthernetAddress address{};
    if (device.config() && (device.features() & feature::mac) != 0)
        std::memcpy(address.data(), device.config()->mac, address.size());
    return address;
}

/// It only sends: what is received lies in pages.
guest::NetPort::Config sending(const Port::Options& options, std::uint64_t features) {
    guest::NetPort::Config config{};
    config.ring = {.entries = options.entries, .event_index = (features & feature::event_idx) != 0};
    config.receive_buffer_bytes = 0;
    config.transmit_buffer_bytes = sizeof(virtio::NetHeader) + options.most_send_bytes;
    return config;
}

}  // namespace

/// In the order of their making: rings lie in memory, memory belongs to the device.
struct Port::Parts {
    explicit Parts(const Options& options)
        : device(open_device(options)),
          mac(address_of(*device)),
          region(guest::find_region(options.pages_path, mac, mem::InfoPage::offers_pages)),
          send_config(sending(options, device->features())),
          pages_config{send_config.ring.entries, send_config.ring.event_index},
          ram(device->make_ram(guest::NetPort::memory_bytes(send_config) + guest::PagesPort::memory_bytes(pages_config),
                               mem::Backing::huge_or_small)),
          sender(ram, send_config),
          pages(ram, region, pages_config) {
        device->activate(ram, rings);
        pages.start();
    }
    bool gone() noexcept {
        was_seen_gone = was_seen_gone || !device->keep(guest::Clock::now());
        return was_seen_gone;
    }
    ~Parts() {
        if (gone()) return;
        try {
            device->deactivate(rings);
        } catch (...) {  // NOLINT(bugprone-empty-catch): it went in the meantime, all the same to us
        }
    }
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;

    std::unique_ptr<guest::Transport> device;
    bool was_seen_gone = false;
    mem::EthernetAddress mac;
    guest::PageRegion region;
    guest::NetPort::Config send_config;
    guest::PagesPort::Config pages_config;
    guest::GuestRam ram;
    guest::NetPort sender;
    guest::PagesPort pages;
    std::array<guest::RingEnd*, ring_count> rings{&pages, &sender.transmit_ring()};
    Statistics counts;
};

Port::Port(const Options& options) {
    if (!virtio::valid_ring_entries(options.entries) || options.entries < virtio::vrx::fewest_entries)
        throw std::system_error(EINVAL, std::generic_category(), "entries of a ring");
    parts_ = std::make_unique<Parts>(options);
}
Port::Port(Port&&) noexcept = default;
Port& Port::operator=(Port&&) noexcept = default;
Port::~Port() = default;

std::span<const Frame> Port::receive() noexcept {
    flush();
    const auto frames = parts_->pages.receive();
    parts_->counts.frames += frames.size();
    for (const Frame& frame : frames) parts_->counts.bytes += frame.length_bytes;
    return frames;
}

void Port::release(const Frame& frame) noexcept {
    parts_->pages.release(frame);
}

std::span<const std::byte> Port::part(const Frame& frame, std::size_t index) const noexcept {
    return parts_->pages.part(frame, index);
}

std::span<const std::byte> Port::contiguous(const Frame& frame, std::span<std::byte> scratch) const noexcept {
    return parts_->pages.contiguous(frame, scratch);
}

bool Port::send(std::span<const std::byte> frame) noexcept {
    guest::NetPort& sender = parts_->sender;
    auto buffer = sender.transmit_buffer();
    if (buffer.empty() && sender.reclaim() != 0) buffer = sender.transmit_buffer();
    const bool fits = !frame.empty() && frame.size() <= buffer.size();
    if (fits) {
        std::memcpy(buffer.data(), frame.data(), frame.size());
        sender.send(frame.size());
    }
    ++(fits ? parts_->counts.sent : parts_->counts.not_sent);
    return fits;
}

void Port::flush() noexcept {
    parts_->sender.flush();
    parts_->pages.flush();
}

bool Port::wait(std::chrono::nanoseconds limit, int also) noexcept {
    flush();
    guest::PagesPort& pages = parts_->pages;
    pages.want_calls(true);
    const std::chrono::nanoseconds look =
        parts_->device->calls() ? limit : std::min<std::chrono::nanoseconds>(limit, nap);
    const auto deadline = guest::Clock::now() + limit;
    std::array<pollfd, 3> entries{{{pages.call_descriptor(), POLLIN, 0},
                                   {parts_->device->descriptor(), POLLIN, 0},
                                   {also, POLLIN, 0}}};  // -1 is ignored
    const timespec timeout = guest::to_timespec(look);
    while (!pages.has_used() && !pages.refused()) {
        const int woken = ::ppoll(entries.data(), entries.size(), &timeout, nullptr);
        pages.drain_call();
        if (woken != 0 || look == limit || guest::Clock::now() >= deadline || parts_->gone()) break;
    }
    pages.want_calls(false);
    return pages.has_used();
}

Port::State Port::state() const noexcept {
    if (parts_->pages.broken() || parts_->sender.broken()) return State::broken;
    if (parts_->pages.refused()) return State::refused;
    return parts_->gone() ? State::gone : State::running;
}

Port::Statistics Port::statistics() const noexcept {
    const guest::PagesPort& pages = parts_->pages;
    const guest::RingEnd& sending = parts_->sender.transmit_ring();
    Statistics counts = parts_->counts;
    counts.kicks = pages.kicks() + sending.kicks();
    counts.calls = pages.calls();
    counts.violations = pages.violations().total() + sending.violations().total();
    counts.pages_held = pages.pages_held();
    counts.most_pages_held = pages.most_pages_held();
    return counts;
}

std::array<std::uint8_t, 6> Port::mac() const noexcept {
    return parts_->mac;
}
std::size_t Port::page_bytes() const noexcept {
    return parts_->region.layout().page_bytes;
}
std::span<const std::byte> Port::region() const noexcept {
    return parts_->region.bytes();
}
unsigned Port::queue() const noexcept {
    return 0;
}
int Port::region_descriptor() const noexcept {
    return parts_->region.file();
}

}  // namespace vitrine
