/// A session with a real poll thread: it runs the queues while the front-end changes everything under it.

#include <atomic>
#include <thread>

#include <doctest/doctest.h>

#include "mem/handover.hpp"
#include "tests/virtio/front_end.hpp"

using namespace vitrine;
using test::GuestBehind;
namespace wire = virtio::vhost_user;
using wire::Request;

namespace {

/// Runs the queues of a device until it goes out of scope.
class PollThread {
public:
    explicit PollThread(virtio::Device& device) : thread_([this, &device] { run(device); }) {}
    ~PollThread() {
        stop_ = true;
        thread_.join();
    }
    mem::Handover handover;
    std::uint64_t frames = 0;  // read it inside a hold

private:
    void run(virtio::Device& device) {
        const std::array<std::byte, 60> frame{};
        const std::span<const std::byte> piece(frame);
        while (!stop_) {
            handover.stand_by();
            if (auto* const queue = device.receive(0)) {
                for (int i = 0; i < 4; ++i)
                    if (queue->deliver({&piece, 1}, {}) == virtio::ReceiveQueue::Outcome::delivered) ++frames;
                queue->publish();
            }
            if (auto* const queue = device.transmit(0)) {
                while (queue->in_flight() < 3 && queue->next()) {
                }
                queue->complete_oldest(queue->in_flight() / 2);
                queue->publish();
            }
        }
    }

    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

}  // namespace

TEST_CASE("a poll thread survives whatever a session changes, thousands of times") {
    GuestBehind guest;
    PollThread poll(guest.device);
    virtio::Hooks hooks;
    hooks.hold = [&] { return poll.handover.take(); };
    hooks.drain = [&](unsigned ring) {
        if (ring == 1) guest.device.transmit(0)->complete_oldest(guest.device.transmit(0)->in_flight());
    };
    hooks.region_added = [](const virtio::GuestRegion&) {};
    hooks.region_removed = [](const virtio::GuestRegion&) {};
    guest.hooks = hooks;
    const auto rest = guest.ram.bytes().size() - 0x1000;
    for (int life = 0; life < 20; ++life) {
        guest.connect();
        guest.negotiate();
        REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.region(0, rest)}));
        for (std::uint32_t ring : {0u, 1u}) guest.configure(ring, 0);
        for (std::uint32_t ring : {0u, 1u}) REQUIRE(guest.enable(ring, true));
        for (int round = 0; round < 20; ++round) {
            while (guest.receive_ring.take_frame()) {
            }
            while (guest.transmit_ring.take_used()) {
            }
            while (guest.receive_ring.free_descriptors() > 0) guest.receive_ring.post({{guest.data, 2048}}, true);
            while (guest.transmit_ring.free_descriptors() > 0) guest.transmit_ring.post({{guest.data, 72}}, false);
            REQUIRE(guest.add_region(guest.ram, guest.ram.region(rest, 0x1000)));
            REQUIRE(guest.set(Request::set_vring_call, std::uint64_t{0}, {guest.call[0].get()}));
            REQUIRE(guest.enable(1, round % 2 == 0));
            REQUIRE(guest.remove_region(guest.ram.region(rest, 0x1000)));
            REQUIRE(guest.set_mem_table(guest.ram, {guest.ram.region(0, rest)}));
            if (round % 8 == 7) {
                guest.get_base(0);
                guest.configure(0, 0);
            }
        }
    }
    guest.session.reset();
    const auto hold = poll.handover.take();
    CHECK(poll.frames > 0);
    CHECK(guest.device.receive_counters(0).ring_broken == 0);
    CHECK(guest.device.transmit_counters(0).ring_broken == 0);
    CHECK(guest.device.transmit_counters(0).tx_bad_chain == 0);
}
