// vitrine's receive path with nothing in front of it: the daemon's own libraries, memory and poll loop on a NIC that is
// a loop over descriptors. A front-end connects, frames reach it as fast as they can be copied. See side_by_side.py.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <pthread.h>
#include <string>
#include <sys/signalfd.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "apps/vitrine/event_loop.hpp"
#include "apps/vitrine/nic.hpp"
#include "apps/vitrine/poller.hpp"
#include "mem/handover.hpp"
#include "mem/socket.hpp"
#include "tests/bench/null_nic.hpp"
#include "virtio/device.hpp"
#include "virtio/session.hpp"

namespace vitrine::bench {
namespace {

using apps::NicMemory;

struct Arguments {
    std::string socket_path;
    std::uint16_t frame_bytes = 60;
    unsigned core = 0;
};

void pin_this_thread(unsigned core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set))
        throw std::system_error(error, std::generic_category(), "pin the poll thread to core " + std::to_string(core));
}

/// What the stand-in itself costs: nanoseconds for one frame, in a ring of the same size, a burst at a time.
double write_back_cost(std::uint16_t frame_bytes) {
    constexpr std::uint32_t burst = 64;
    constexpr std::size_t wanted = 50'000'000;
    std::vector<driver::RxDescriptor> slots(NicMemory::rx_slots);
    NullNic nic(slots, frame_bytes);
    const auto begin = std::chrono::steady_clock::now();
    std::size_t frames = 0;
    for (std::uint32_t tail = burst; frames < wanted; tail = (tail + burst) % NicMemory::rx_slots) {
        std::atomic_ref(*nic.tail()).store(tail, std::memory_order_release);
        frames += nic.write_back();
    }
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
    return spent.count() / static_cast<double>(frames);
}

/// The daemon's poll thread with the NIC between its turns, which never finds itself idle.
class NullVf {
public:
    explicit NullVf(const Arguments& arguments)
        : memory_({}, {{0, (std::uint64_t{1} << 39) - 1}}),
          rx_slots_(reinterpret_cast<driver::RxDescriptor*>(memory_.rings.mapping.data()), NicMemory::rx_slots),
          nic_(rx_slots_, arguments.frame_bytes),
          rx_(rx_slots_, driver::Doorbell(nic_.tail()), memory_.packet_pool),
          device_({.mac = {0x02, 0, 0, 0, 0, 1}}),
          pair_(memory_.packet_pool, memory_.bounce_pool, device_, 0, false) {
        rx_.fill();
        pair_.receive.attach(rx_, NicMemory::rx_slots);
        thread_ = std::thread([this, arguments] { run(arguments); });
    }
    ~NullVf() {
        stop_.store(true, std::memory_order_relaxed);
        thread_.join();
        pair_.receive.detach(rx_.release());
    }
    NullVf(const NullVf&) = delete;
    NullVf& operator=(const NullVf&) = delete;

    virtio::Device& device() { return device_; }
    virtio::Hooks hooks() {
        return {.hold = [this] { return handover_.take(); },
                .drain = [](unsigned) {},
                .region_added = [](const virtio::GuestRegion&) {},
                .region_removed = [](const virtio::GuestRegion&) {}};
    }

    nlohmann::json report() {
        const mem::Handover::Hold hold = handover_.take();
        nlohmann::json object{
            {"write_back_ns", write_back_ns_}, {"huge_pages", memory_.packets.why_not_huge.empty()}, {"turns", turns_}};
        for (const auto& counter : apps::ReceivePathCounters::names)
            object[std::string(counter.name)] = pair_.receive_counters.*counter.value;
        return object;
    }

private:
    void run(const Arguments& arguments) {
        pin_this_thread(arguments.core);
        write_back_ns_ = write_back_cost(arguments.frame_bytes);
        while (!stop_.load(std::memory_order_relaxed)) {
            handover_.stand_by();
            nic_.write_back();
            pair_.receive.poll();
            pair_.transmit.poll();
            ++turns_;
        }
    }

    NicMemory memory_;
    std::span<driver::RxDescriptor> rx_slots_;
    NullNic nic_;
    driver::RxRing rx_;
    virtio::Device device_;
    apps::Pair pair_;
    mem::Handover handover_;
    std::atomic<bool> stop_ = false;
    double write_back_ns_ = 0;
    std::uint64_t turns_ = 0;
    std::thread thread_;
};

mem::FileDescriptor end_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    mem::FileDescriptor file(::signalfd(-1, &set, SFD_CLOEXEC));
    if (!file) mem::throw_errno("signalfd");
    return file;
}

/// Serves one front-end until it leaves or a signal comes.
void serve(const Arguments& arguments) {
    const mem::FileDescriptor signals = end_signals();
    const mem::FileDescriptor listener = mem::listen_unix(arguments.socket_path);
    NullVf vf(arguments);
    apps::EventLoop loop;
    std::optional<virtio::Session> session;
    bool ended = false;
    loop.add(signals.get(), [&] { ended = true; });
    loop.add(listener.get(), [&] {
        loop.remove(listener.get());
        session.emplace(mem::accept_unix(listener.get()), vf.device(), vf.hooks());
        loop.add(session->descriptor(), [&] { ended = ended || !session->handle_message(); });
    });
    while (!ended) loop.run_once(std::chrono::seconds(1));
    ::unlink(arguments.socket_path.c_str());
    if (session && !session->last_refusal().empty())
        std::fprintf(stderr, "front-end: %s\n", session->last_refusal().c_str());
    std::puts(vf.report().dump().c_str());
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
    vitrine::bench::Arguments arguments;
    CLI::App app("vitrine's receive path on a NIC that costs nothing");
    app.add_option("--socket-path", arguments.socket_path, "vhost-user socket to listen on")->required();
    app.add_option("--frame-bytes", arguments.frame_bytes, "length of every frame, without CRC")
        ->check(CLI::Range(14, 2048))
        ->capture_default_str();
    app.add_option("--core", arguments.core, "core of the poll thread")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        vitrine::bench::serve(arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "null_vf: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
