#include <array>
#include <atomic>
#include <stdexcept>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/frontend.hpp"
#include "apps/guest/run.hpp"
#include "mem/socket.hpp"
#include "virtio/device.hpp"
#include "virtio/session.hpp"

using namespace vitrine;
using namespace vitrine::guest;

namespace {

constexpr virtio::DeviceConfig device_config{.mac = {2, 0, 0, 0, 0, 9}, .mtu = 9000};

/// vitrine's device in one thread, with no NIC behind: it stamps frames for the guest, and checks what the guest sends
/// or sends it back.
class Backend {
public:
    struct Work {
        std::uint64_t frames = 0;      ///< to send to the guest
        std::size_t frame_bytes = 60;  ///< of these
        bool echo = false;             ///< what the guest sends goes back to it
    };

    Backend(mem::FileDescriptor socket, const Work& work)
        : work_(work), thread_([this, socket = std::move(socket)]() mutable { serve(std::move(socket)); }) {}
    ~Backend() { thread_.join(); }
    Backend(const Backend&) = delete;

    /// After the guest has ended.
    struct Outcome {
        std::uint64_t sent = 0;
        std::uint64_t received = 0;
        std::uint64_t good = 0;  ///< received with a valid stamp, in order
        virtio::SessionCounters session{};
        std::string refusal;
    };
    const Outcome& wait() {
        while (!done_) std::this_thread::yield();
        return outcome_;
    }

private:
    void serve(mem::FileDescriptor socket) {
        {
            virtio::Session session(std::move(socket), device_,
                                    {.hold = [] { return mem::Handover::Hold(); },  // one thread does everything
                                     .drain = [](unsigned) {},
                                     .region_added = [](const virtio::GuestRegion&) {},
                                     .region_removed = [](const virtio::GuestRegion&) {}});
            bool open = true;
            while (open) {
                const bool moved = poll();
                if (mem::wait_readable(session.descriptor(), std::chrono::milliseconds(moved ? 0 : 1)))
                    open = session.handle_message();
            }
            outcome_.refusal = session.last_refusal();
        }
        outcome_.good = sequence_.in_order();
        outcome_.session = device_.session_counters();
        done_ = true;
    }

    bool poll() {
        bool moved = false;
        if (auto* const queue = device_.receive(0)) {
            std::vector<std::byte> frame(work_.frame_bytes);
            while (outcome_.sent < work_.frames) {
                mem::write_test_frame(frame, device_config.mac, {2, 0, 0, 0, 0, 8}, {0, outcome_.sent});
                if (!deliver(*queue, frame)) break;
                ++outcome_.sent;
                moved = true;
            }
            queue->publish();
        }
        if (auto* const queue = device_.transmit(0)) {
            while (const auto frame = queue->next()) {
                moved = true;
                std::vector<std::byte> bytes;
                for (const auto& piece : frame->pieces)
                    bytes.insert(bytes.end(), piece.host, piece.host + piece.length_bytes);
                ++outcome_.received;
                if (const auto stamp = mem::read_test_frame(bytes)) sequence_.accept(*stamp);
                if (work_.echo) deliver(*device_.receive(0), bytes);
                queue->complete_oldest(1);
            }
            queue->publish();
        }
        if (work_.echo && device_.receive(0) != nullptr) device_.receive(0)->publish();
        return moved;
    }

    static bool deliver(virtio::ReceiveRing& queue, std::span<const std::byte> frame) {
        const std::array pieces{frame};
        return queue.deliver(pieces, {}) == virtio::ReceiveQueue::Outcome::delivered;
    }

    Work work_;
    virtio::Device device_{device_config};
    mem::SequenceCheck sequence_;
    Outcome outcome_;
    std::atomic<bool> done_{false};
    std::thread thread_;
};

struct Played {
    Result guest;
    Backend::Outcome backend;
};

Played play(const Options& options, const Backend::Work& work) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    Backend backend{mem::FileDescriptor(ends[0]), work};
    const std::atomic<bool> stop{false};
    Played played;
    {
        Frontend device(mem::FileDescriptor(ends[1]), wanted_features(options), rings_of(options));
        played.guest = run(options, device, stop);
    }
    played.backend = backend.wait();
    return played;
}

/// Every way of using the rings.
std::vector<Options> drivers(Mode mode) {
    std::vector<Options> all;
    for (const bool merge : {true, false})
        for (const bool indirect : {true, false})
            for (const bool event_index : {true, false}) {
                Options options;
                options.mode = mode;
                options.backing = mem::Backing::small_only;
                options.merge = merge;
                options.indirect = indirect;
                options.event_index = event_index;
                options.queue_size = 64;
                all.push_back(options);
            }
    return all;
}

}  // namespace

TEST_CASE("what vitrine's device delivers arrives complete, at every size and with every kind of ring") {
    for (Options options : drivers(Mode::check))
        for (const std::size_t frame_bytes : {60u, 1514u, 9018u}) {
            options.count = 500;
            const auto [guest, backend] = play(options, {.frames = 500, .frame_bytes = frame_bytes});
            CHECK(guest.good());
            CHECK(guest.ending == Ending::count);
            CHECK(guest.received.frames == 500);
            CHECK(guest.received.bytes == 500 * frame_bytes);
            CHECK(guest.received.lost == 0);
            CHECK(backend.refusal == "");
            CHECK(backend.session.base_differs == 0);
        }
}

TEST_CASE("what vitrine-guest sends reaches vitrine's device complete, with every kind of ring") {
    for (Options options : drivers(Mode::tx)) {
        options.count = 500;
        options.wire_bytes = 1518;
        const auto [guest, backend] = play(options, {});
        CHECK(guest.good());
        CHECK(guest.sent.frames == 500);
        CHECK(guest.sent.bytes == 500 * 1514);
        CHECK(guest.sent.unfinished == 0);
        CHECK(backend.received == 500);
        CHECK(backend.good == 500);
    }
}

TEST_CASE("an echo sends every frame back") {
    for (Options options : drivers(Mode::echo)) {
        options.count = 300;
        const auto [guest, backend] = play(options, {.frames = 300, .frame_bytes = 100});
        CHECK(guest.good());
        CHECK(guest.received.frames == 300);
        CHECK(guest.sent.frames == 300);
        CHECK(backend.good == 300);
    }
}

TEST_CASE("an echo that ends while frames still come leaves none of its own unfinished") {
    for (Options options : drivers(Mode::echo)) {
        options.count = 300;
        const auto [guest, backend] = play(options, {.frames = 5000, .frame_bytes = 1514});
        CHECK(guest.good());
        CHECK(guest.received.frames == backend.sent);
        CHECK(guest.sent.frames + guest.sent.skipped == guest.received.frames);
        CHECK(backend.received == guest.sent.frames);
    }
}

TEST_CASE("with single frames and long pauses both sides sleep, and each call wakes the guest") {
    for (Options options : drivers(Mode::tx)) {
        options.count = 20;
        options.frames_per_second = 500;
        options.spin = std::chrono::microseconds(0);
        const auto [guest, backend] = play(options, {.echo = true});
        CHECK(guest.good());
        CHECK(guest.received.frames == 20);
        CHECK(guest.transmit_ring.calls > 0);
    }
}

TEST_CASE("cloud-hypervisor's order asks for nothing that vitrine's session refuses") {
    Options options;
    options.mode = Mode::tx;
    options.count = 1;
    options.backing = mem::Backing::small_only;
    const auto [guest, backend] = play(options, {});
    CHECK(guest.features != 0);
    CHECK(backend.refusal == "");
    // SET_OWNER, features and protocol features (4), GET_QUEUE_NUM, GET_CONFIG; SET_FEATURES, SET_MEM_TABLE; NUM, ADDR,
    // BASE, CALL, KICK and ENABLE for two rings; at the end ENABLE and GET_VRING_BASE for both.
    CHECK(backend.session.messages == 4 + 2 + 2 + 12 + 4);
}

TEST_CASE("who wants packed rings from a device that has none is told how to have them") {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    Backend backend{mem::FileDescriptor(ends[0]), {}};
    Options options;
    options.packed = true;
    const std::atomic<bool> stop{false};
    {
        Frontend device(mem::FileDescriptor(ends[1]), 0, rings_of(options));
        CHECK_THROWS_WITH_AS(run(options, device, stop), doctest::Contains("vitrine run --packed on"),
                             std::runtime_error);
    }
    backend.wait();
}
