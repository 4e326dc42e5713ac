// dma_fault VF: makes the driver post an address that is not mapped for DMA, and shows that the IOMMU (or what plays
// it) keeps the NIC away, that the driver notices and names it, and that a reset of the VF is all it takes to go on.
// One line for each step; exit code 0 when all of them went as they should. VF is what `vitrine run --vf` takes.

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "driver/any_device.hpp"
#include "driver/clock.hpp"
#include "driver/health.hpp"
#include "driver/pci.hpp"
#include "driver/statistics.hpp"
#include "driver/tx_ring.hpp"
#include "driver/vf.hpp"
#include "mem/shared_memory.hpp"

namespace {

using namespace vitrine;
using namespace std::chrono_literals;

constexpr std::size_t memory_bytes = std::size_t{2} << 20;
constexpr std::size_t ring_slots = 128;
constexpr std::size_t frame_at = std::size_t{1} << 20;
constexpr std::uint32_t frame_bytes = 60;
constexpr mem::Iova base{std::uint64_t{1} << 32};
constexpr driver::MacAddress fallback_mac{0x02, 0, 0, 0, 0, 0x77};

/// The driver's own classes on one transmit queue, and nothing above them.
class Bench {
public:
    explicit Bench(const driver::VfPlace& place)
        : device_(place, 5s), memory_(mem::make_shared_memory("dma_fault", memory_bytes, mem::Backing::small_only)) {
        driver::identify(device_);
        device_.map_dma(base, {memory_.mapping.bytes(), memory_.file.get(), 0},
                        driver::DmaAccess::device_reads_and_writes);
        driver::enable_bus_master(device_);
    }

    void start() {
        mac_ = vf_.reset(fallback_mac).mac;
        statistics_.begin(device_);
        driver::start_transmit_queue(device_, clock_, 0, {base, ring_slots});
        tx_.emplace(std::span(reinterpret_cast<driver::TxDescriptor*>(memory_.mapping.data()), ring_slots),
                    device_.doorbell(driver::VFTDT::at(0)));
        health_.begin(progress(), statistics_.update(device_));
    }

    /// A frame from `source` to nobody. False when the NIC does not finish it.
    bool send(mem::Iova source) {
        std::byte* const frame = memory_.mapping.data() + frame_at;
        std::memset(frame, 0, frame_bytes);
        frame[0] = std::byte{0x02};
        std::memcpy(frame + 6, mac_.data(), mac_.size());
        const driver::Fragment piece{source, frame_bytes};
        if (tx_->send({&piece, 1}, 0) != driver::Sent::queued) throw std::runtime_error("the ring takes no frame");
        tx_->flush();
        std::array<std::uint64_t, 1> finished;
        return driver::wait_until(clock_, 1s, 1ms, [&] { return tx_->reclaim(finished) == 1; });
    }

    /// What the driver says about its queues, looked at once a second as the daemon does.
    driver::Troubles look() {
        driver::Troubles seen;
        for (int looks = 0; looks < 6 && seen.none(); ++looks) {
            std::this_thread::sleep_for(1s);
            seen = health_.look(progress(), statistics_.update(device_), true);
        }
        return seen;
    }

private:
    driver::RingProgress progress() const {
        driver::RingProgress progress;
        progress.transmit[0] = {tx_->finished(), tx_->in_flight() != 0};
        return progress;
    }

    driver::SteadyClock clock_;
    driver::AnyDevice device_;
    mem::SharedMemory memory_;
    driver::Vf<driver::AnyDevice, driver::SteadyClock> vf_{device_, clock_};
    driver::MacAddress mac_{};
    driver::StatisticsReader statistics_;
    driver::Health health_;
    std::optional<driver::TxRing> tx_;
};

void expect(bool condition, const std::string& what) {
    if (!condition) throw std::runtime_error("not so: " + what);
    std::printf("ok: %s\n", what.c_str());
    std::fflush(stdout);
}

void fault_and_recover(Bench& bench, mem::Iova unmapped, const std::string& where) {
    expect(!bench.send(unmapped), "a frame " + where + " is never finished");
    const driver::Troubles troubles = bench.look();
    expect(troubles[driver::index_of(driver::Trouble::tx_stuck)], "event: VF: tx_stuck, after a frame " + where);
    bench.start();
    expect(bench.send(base + frame_at), "after a reset of the VF, frames are sent again");
}

void run(const driver::VfPlace& place) {
    Bench bench(place);
    bench.start();
    expect(bench.send(base + frame_at), "a frame in mapped memory is sent");
    fault_and_recover(bench, base + memory_bytes, "behind the mapped memory");
    fault_and_recover(bench, mem::Iova{0x1000}, "in low memory, where a guest's RAM would be");
}

}  // namespace

int main(int argc, char** argv) {
    const auto place = argc == 2 ? driver::parse_vf_place(argv[1]) : std::nullopt;
    if (!place) {
        std::fprintf(stderr, "dma_fault 0000:03:10.1 | PF/INDEX | vfio-user:PATH\n");
        return 2;
    }
    try {
        run(*place);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dma_fault: %s\n", error.what());
        return 1;
    }
}
