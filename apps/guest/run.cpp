#include "apps/guest/run.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "apps/guest/find_region.hpp"
#include "apps/guest/guest_ram.hpp"
#include "apps/guest/held_frames.hpp"
#include "apps/guest/net_port.hpp"
#include "apps/guest/packed_pages_port.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/pages_port.hpp"
#include "apps/guest/schedule.hpp"
#include "apps/guest/traffic.hpp"
#include "virtio/features.hpp"
#include "virtio/vrx.hpp"

namespace vitrine::guest {
namespace {

namespace feature = virtio::feature;
using std::chrono::nanoseconds;

/// Signals and time limits are looked at in between, and whether the back-end is back.
constexpr nanoseconds longest_sleep = std::chrono::milliseconds(100);
/// Of who has to look whether the device did something.
constexpr nanoseconds nap = std::chrono::microseconds(100);
constexpr nanoseconds longest_sleep_alone = std::chrono::milliseconds(20);
constexpr std::size_t header_bytes = sizeof(virtio::NetHeader);
constexpr std::size_t least_frame_bytes = 14;
constexpr std::size_t most_frame_bytes = most_wire_bytes - crc_bytes;
static_assert(most_frame_bytes <= PackedPagesPort::Config{}.most_frame_bytes);

NetPortConfig port_config(const Options& options, std::uint64_t features) {
    NetPortConfig config{};
    config.ring = {.entries = options.queue_size,
                   .event_index = (features & feature::event_idx) != 0,
                   .indirect = (features & feature::indirect_desc) != 0,
                   .most_segments = 2};
    config.mergeable = (features & feature::mrg_rxbuf) != 0;
    if (!config.mergeable) config.receive_buffer_bytes = header_bytes + most_frame_bytes;
    const bool only_stamped = options.mode == Mode::tx && options.pcap_in.empty();
    config.transmit_buffer_bytes = header_bytes + (only_stamped ? options.wire_bytes - crc_bytes : most_frame_bytes);
    return config;
}

EndRule::Limits limits(const Options& options) {
    EndRule::Limits limits{};
    limits.frames = options.count;
    if (options.seconds) limits.time = std::chrono::seconds(*options.seconds);
    limits.idle = std::chrono::seconds(options.idle_seconds);
    limits.first = std::chrono::seconds(options.wait_seconds);
    return limits;
}

mem::EthernetAddress own_address(const Transport& device) {
    mem::EthernetAddress address{0x02, 0, 0, 0, 0, 0x01};
    if (device.config() && (device.features() & feature::mac) != 0)
        std::memcpy(address.data(), device.config()->mac, address.size());
    return address;
}

/// The guest while its rings run. `Net` and `Pages` are its ports, on split or on packed rings.
template <class Net, class Pages>
class Guest {
public:
    /// With `pages` frames are received there, by one port for each queue, and `port` only sends.
    Guest(const Options& options, Transport& device, Net& port, std::deque<Pages>& pages, const std::atomic<bool>& stop)
        : options_(options),
          device_(device),
          port_(port),
          pages_(pages),
          stop_(stop),
          start_(Clock::now()),
          last_moved_(start_),
          end_(limits(options), start_),
          pacer_(options.frames_per_second, start_),
          receiver_(options),
          scratch_(std::max(options.queue_size * port.receive_buffer_bytes(), most_frame_bytes)),
          held_(options.hold, most_frame_bytes) {
        if (options.mode == Mode::tx) source_.emplace(options, own_address(device));
    }

    /// Until the run ends and the device has used what was sent, or will not.
    void play() {
        while (!ending_) {
            const Clock::time_point now = Clock::now();
            const bool moved = receive() + send(now) + reclaim() != 0;
            decide(now);
            if (!ending_) rest(now, moved);
        }
        const Clock::time_point deadline = Clock::now() + std::chrono::seconds(options_.idle_seconds);
        for (auto now = Clock::now(); !lost() && port_.in_flight() != 0 && now < deadline; now = Clock::now())
            rest(now, receive() + reclaim() != 0);
    }

    bool device_gone() const { return ending_ == Ending::backend_gone; }

    /// Takes what the device delivered before its rings stopped.
    void drain() {
        while (receive() != 0) {
        }
        held_.let_all_go();
        reclaim();
    }

    Result result() {
        Result result{};
        result.mode = options_.mode;
        result.ending = *ending_;
        result.active = end_.active();
        result.received = receiver_.finish();
        result.received.empty = port_.empty_frames();
        result.received.changed = held_.changed();
        result.sent = {.frames = reclaimed_,
                       .bytes = queued_bytes_,
                       .unfinished = port_.in_flight(),
                       .skipped = source_ ? source_->skipped() : skipped_};
        if (pages_.empty()) result.receive_ring = counts_of(port_.receive_ring());
        for (const Pages& queue : pages_) result.receive_ring += counts_of(queue);
        result.transmit_ring = counts_of(port_.transmit_ring());
        result.features = device_.features();
        result.reconnects = device_.returns();
        return result;
    }

private:
    static Result::Ring counts_of(const RingEnd& ring) {
        return {ring.violations(), ring.kicks(), ring.kicks_suppressed(), ring.calls()};
    }

    std::size_t receive() {
        if (!pages_.empty()) return receive_in_place();
        const auto frames = port_.receive();
        for (const Frame& frame : frames) {
            const auto bytes = frame.contiguous(scratch_);
            receiver_.accept(bytes);
            ++received_;
            if (options_.mode == Mode::echo) echo(bytes);
        }
        port_.flush();
        port_.release();
        return frames.size();
    }

    std::size_t receive_in_place() {
        std::size_t count = 0;
        for (unsigned queue = 0; queue < pages_.size(); ++queue) {
            Pages& pages = pages_[queue];
            for (const LentFrame& frame : pages.receive()) {
                const auto bytes = pages.contiguous(frame, scratch_);
                const auto stamp = receiver_.accept(bytes);
                ++count;
                if (options_.mode == Mode::echo) echo(bytes);
                if (queue == options_.hoard) continue;
                if (options_.hold != 0)
                    held_.keep(pages, frame, stamp);
                else
                    pages.release(frame);
            }
            pages.flush();
        }
        port_.flush();
        received_ += count;
        return count;
    }

    void echo(std::span<const std::byte> frame) {
        if (ending_) {  // what is still in flight must come to an end, and the rings may have stopped
            ++skipped_;
            return;
        }
        const Clock::time_point deadline = Clock::now() + std::chrono::seconds(options_.idle_seconds);
        auto buffer = port_.transmit_buffer();
        for (; buffer.empty() && !lost(); buffer = port_.transmit_buffer()) {
            port_.flush();
            if (Clock::now() > deadline || stop_) return;  // what is in flight then tells
            rest(Clock::now(), reclaim() != 0);
        }
        if (lost()) return;
        if (frame.size() > buffer.size() || frame.size() < least_frame_bytes) {
            ++skipped_;
            return;
        }
        write_echo(frame, buffer);
        queue(frame.size());
    }

    std::size_t send(Clock::time_point now) {
        std::size_t count = 0;
        for (; source_ && !exhausted_ && count < Net::most_frames_per_burst; ++count) {
            const auto buffer = port_.transmit_buffer();
            if (buffer.empty() || !pacer_.due(now, source_->made())) break;
            const auto length_bytes = source_->write_next(buffer);
            exhausted_ = !length_bytes;
            if (exhausted_) break;
            queue(*length_bytes);
        }
        port_.flush();
        return count;
    }

    void queue(std::size_t length_bytes) {
        port_.send(length_bytes);
        queued_bytes_ += length_bytes;
    }

    std::size_t reclaim() {
        const std::size_t count = port_.reclaim();
        reclaimed_ += count;
        return count;
    }

    bool broken() const {
        return port_.broken() ||
               std::ranges::any_of(pages_, [](const Pages& queue) { return queue.broken() || queue.refused(); });
    }
    bool lost() const { return broken() || ending_ == Ending::backend_gone; }

    void decide(Clock::time_point now) {
        if (lost()) {
            ending_ = broken() ? Ending::ring_broken : Ending::backend_gone;
            return;
        }
        const bool paused = device_.away() || (source_ && port_.in_flight() == 0);
        ending_ = end_.check(now, source_ ? reclaimed_ : received_, paused);
        if (exhausted_ && port_.in_flight() == 0) ending_ = Ending::count;
        if (stop_) ending_ = Ending::signal;
    }

    /// Spins for a bound after the last thing that moved, then sleeps.
    void rest(Clock::time_point now, bool moved) {
        if (moved) last_moved_ = now;
        if (now - last_moved_ < options_.spin) {
            __builtin_ia32_pause();
            return;
        }
        nanoseconds limit = device_.away() ? longest_sleep_alone : longest_sleep;
        if (source_ && !exhausted_ && !port_.transmit_buffer().empty())
            limit = std::clamp(nanoseconds(pacer_.due_time(source_->made()) - now), nanoseconds(0), limit);
        sleep(limit);
        if (!device_.keep(now)) ending_ = Ending::backend_gone;
    }

    void sleep(nanoseconds limit) {
        if (!device_.calls()) return std::this_thread::sleep_for(std::min(limit, nap));
        std::array<int, Net::most_also> calls{};
        bool has_used = false;
        for (std::size_t queue = 0; queue < pages_.size(); ++queue) {
            pages_[queue].want_calls(true);
            has_used |= pages_[queue].has_used();
            calls[queue] = pages_[queue].call_descriptor();
        }
        if (!has_used) port_.sleep(limit, device_.descriptor(), std::span(calls).first(pages_.size()));
        for (Pages& queue : pages_) {
            queue.drain_call();
            queue.want_calls(false);
        }
    }

    const Options& options_;
    Transport& device_;
    Net& port_;
    std::deque<Pages>& pages_;  ///< by queue; empty: received into buffers
    const std::atomic<bool>& stop_;
    Clock::time_point start_;
    Clock::time_point last_moved_;
    EndRule end_;
    Pacer pacer_;
    Receiver receiver_;
    std::optional<Source> source_;
    bool exhausted_ = false;  ///< the source has no more
    std::vector<std::byte> scratch_;
    HeldFrames<Pages> held_;
    std::uint64_t received_ = 0;
    std::uint64_t reclaimed_ = 0;
    std::uint64_t queued_bytes_ = 0;
    std::uint64_t skipped_ = 0;  ///< echoes that could not be made
    std::optional<Ending> ending_;
};

/// What the device must have agreed to beyond what any driver can live with.
void check_agreed(const Options& options, std::uint64_t features) {
    if (options.packed && (features & feature::ring_packed) == 0)
        throw std::runtime_error(
            "the device offers no packed rings: vitrine run --packed on, and in a VM packed=on for QEMU's device");
    if (options.packed && !options.pages_path.empty() && (features & virtio::vrx::feature) == 0)
        throw std::runtime_error("the device offers no pages on packed rings: vitrine run --packed on --rx pages");
}

template <class Net, class Pages>
Result run_with(const Options& options, Transport& device, const std::atomic<bool>& stop) {
    NetPortConfig config = port_config(options, device.features());
    if (!options.offset_path.empty()) {
        const PageRegion named = find_region(options.offset_path, own_address(device), mem::InfoPage::offers_offset);
        config.receive_at_offsets(named.tag(), named.layout().page_bytes);
    }
    typename Pages::Config pages_config{};
    pages_config.entries = config.ring.entries;
    pages_config.event_index = config.ring.event_index;
    GuestRam ram = device.make_ram(Net::memory_bytes(config) + options.queues * Pages::memory_bytes(pages_config),
                                   options.backing);
    Net port(ram, config);
    std::optional<PageRegion> region;
    const std::uint32_t lends = options.packed ? mem::InfoPage::offers_packed_pages : mem::InfoPage::offers_pages;
    if (!options.pages_path.empty()) region.emplace(find_region(options.pages_path, own_address(device), lends));
    std::deque<Pages> pages;
    std::vector<RingEnd*> rings{&port.receive_ring(), &port.transmit_ring()};
    rings.resize(rings_of(options));
    for (unsigned queue = 0; region && queue < options.queues; ++queue)
        rings[2 * queue] = &pages.emplace_back(ram, *region, pages_config);

    Guest<Net, Pages> guest(options, device, port, pages, stop);
    device.activate(ram, rings);
    for (Pages& queue : pages) queue.start();
    if (pages.empty()) port.post_buffers();
    guest.play();
    for (const Pages& queue : pages)
        if (queue.refused())
            throw std::runtime_error("the device refuses to lend pages, reason " +
                                     std::to_string(queue.answer().raw & 0x0f) + " (docs/vrx.md, 3.4)");
    if (!guest.device_gone()) device.deactivate(rings);
    guest.drain();
    return guest.result();
}

}  // namespace

std::uint64_t wanted_features(const Options& options) {
    return feature::mac | feature::mtu | feature::status | (options.merge ? feature::mrg_rxbuf : 0) |
           (options.indirect ? feature::indirect_desc : 0) | (options.event_index ? feature::event_idx : 0) |
           (options.packed ? feature::ring_packed : 0) |
           (options.packed && !options.pages_path.empty() ? virtio::vrx::feature : 0);
}

Result run(const Options& options, Transport& device, const std::atomic<bool>& stop) {
    check_agreed(options, device.features());
    if (options.packed) return run_with<PackedNetPort, PackedPagesPort>(options, device, stop);
    return run_with<NetPort, PagesPort>(options, device, stop);
}

}  // namespace vitrine::guest
