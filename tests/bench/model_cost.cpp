// What vf_sim itself costs, so that a benchmark over it can say how much of a frame's time is the model's: nanoseconds
// per frame in one thread, with a client that does the least a client can do (rewrites descriptors, moves the tail),
// no socket and no interrupt. `null` and `gen` are the wires of that name.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <time.h>

#include "driver/descriptors.hpp"
#include "mem/shared_memory.hpp"
#include "tools/vf_sim/vf.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::bench {
namespace {

using namespace driver;

/// CPU time of this thread: what others do on the machine is not the model's.
double now_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

constexpr std::size_t slots = 1024, burst = 32, buffer_bytes = 2048;
constexpr std::size_t rings_bytes = 2 * slots * 16;
constexpr mem::Iova memory_at{0x1'0000'0000};
constexpr mem::EthernetAddress own{0x02, 0x56, 0x46, 0, 0, 1}, outside{0x02, 0, 0, 0, 0, 9};

/// A VF with both queues of 1024 on, and its client.
class ModelBench {
public:
    explicit ModelBench(std::size_t wire_bytes)
        : frame_bytes_(wire_bytes - 4),
          memory_(mem::make_shared_memory("model-cost", rings_bytes + slots * buffer_bytes, mem::Backing::small_only)),
          vf_(policy()) {
        const auto mapped = vf_.memory().map(memory_at, memory_.mapping.size(), memory_.file, 0, true, true);
        if (!mapped) throw std::runtime_error("the model refuses the memory");
        vf_.write_config(4, std::array{std::byte{4}, std::byte{0}});
        vf_.advance(vf_sim::Time(std::chrono::seconds(1)));
        vf_.store(VFMBMEM::at(0), head_of(MessageType::reset).raw);
        vf_.store(VFMAILBOX::at(), VFMAILBOX{}.with(VFMAILBOX::request, 1).raw);
        start<VFRDBAL, VFRDBAH, VFRDLEN>(memory_at);
        vf_.store(VFSRRCTL::at(0), VFSRRCTL{}
                                       .with(VFSRRCTL::packet_buffer_kib, buffer_bytes / 1024)
                                       .with(VFSRRCTL::descriptor_type, VFSRRCTL::advanced_one_buffer)
                                       .raw);
        vf_.store(VFRXDCTL::at(0), VFRXDCTL{}.with(VFRXDCTL::enable, 1).raw);
        start<VFTDBAL, VFTDBAH, VFTDLEN>(memory_at + slots * 16);
        vf_.store(VFTXDCTL::at(0), VFTXDCTL{}.with(VFTXDCTL::enable, 1).raw);
        for (std::size_t slot = 0; slot < slots; ++slot)
            mem::write_test_frame(memory_.mapping.bytes().subspan(rings_bytes + slot * buffer_bytes, frame_bytes_),
                                  outside, own, {.flow = 0, .sequence = slot});
    }

    /// The client receives: a burst is armed, the wire fills it.
    double receive(std::size_t frames) {
        const auto wire = vf_sim::make_wire("gen:size=" + std::to_string(frame_bytes_ + 4));
        auto* ring = reinterpret_cast<RxDescriptor*>(memory_.mapping.data());
        const double begin = now_ns();
        for (std::size_t done = 0; done < frames; done += burst) {
            for (std::size_t i = done; i < done + burst; ++i) ring[i % slots] = {buffer(i).raw, 0};
            show(VFRDT::at(0), done + burst);
            for (std::size_t i = 0; i < burst; ++i) {
                if (vf_.receive(wire->next({}, own)) != vf_sim::RxOutcome::delivered)
                    throw std::runtime_error("a frame was not delivered");
                wire->take();
            }
        }
        return per_frame(begin, frames);
    }
    /// The client sends to the wire, with a report for the last frame of each burst.
    double transmit(const std::string& to, std::size_t frames) {
        const auto wire = vf_sim::make_wire(to);
        auto* ring = reinterpret_cast<TxDescriptor*>(memory_.mapping.data() + slots * 16);
        const TxData plain = TxData{}
                                 .with(TxData::buffer_bytes, frame_bytes_)
                                 .with(TxData::payload_bytes, frame_bytes_)
                                 .with(TxData::type, TxData::data_type)
                                 .with(TxData::advanced, 1)
                                 .with(TxData::insert_crc, 1)
                                 .with(TxData::end_of_packet, 1);
        std::size_t sent = 0;
        const double begin = now_ns();
        for (std::size_t done = 0; done < frames; done += burst) {
            for (std::size_t i = done; i < done + burst; ++i)
                ring[i % slots] = {buffer(i).raw, plain.with(TxData::report_status, i + 1 == done + burst).raw};
            show(VFTDT::at(0), done + burst);
            vf_.transmit(burst, [&](std::span<const std::byte> frame) {
                wire->transmit(frame);
                ++sent;
            });
        }
        const double result = per_frame(begin, frames);
        if (sent != frames) throw std::runtime_error("a frame was not sent");
        vf_.store(VFTXDCTL::at(0), 0);  // for the next measurement
        vf_.store(VFTDH::at(0), 0);
        vf_.store(VFTXDCTL::at(0), VFTXDCTL{}.with(VFTXDCTL::enable, 1).raw);
        return result;
    }

private:
    static vf_sim::Policy policy() {
        vf_sim::Policy policy;
        policy.mac = own;
        return policy;
    }
    template <class Low, class High, class Length>
    void start(mem::Iova ring) {
        vf_.store(Low::at(0), static_cast<std::uint32_t>(ring.raw));
        vf_.store(High::at(0), static_cast<std::uint32_t>(ring.raw >> 32));
        vf_.store(Length::at(0), slots * 16);
    }
    static mem::Iova buffer(std::size_t number) { return memory_at + rings_bytes + number % slots * buffer_bytes; }
    void show(std::uint32_t at, std::size_t tail) {
        auto* word = reinterpret_cast<std::uint32_t*>(vf_.doorbells().mapping.data() + at);
        std::atomic_ref(*word).store(static_cast<std::uint32_t>(tail % slots), std::memory_order_release);
    }
    static double per_frame(double begin, std::size_t frames) {
        return (now_ns() - begin) / static_cast<double>(frames);
    }

    std::size_t frame_bytes_;
    mem::SharedMemory memory_;
    vf_sim::Vf vf_;
};

}  // namespace
}  // namespace vitrine::bench

int main() {
    const bool is_long = std::getenv("VITRINE_LONG") != nullptr;
    const std::size_t frames = is_long ? 3'200'000 : 320'000;
    try {
        std::printf("vf_sim's own cost, ns of CPU time per frame, %zu frames each\n%8s %12s %12s %12s\n", frames,
                    "wire B", "null, TX", "gen, TX", "gen, RX");
        for (const std::size_t wire_bytes : {64, 512, 1518}) {
            vitrine::bench::ModelBench bench(wire_bytes);
            bench.transmit("null", frames / 10);  // warms up
            const double null_tx = bench.transmit("null", frames), gen_tx = bench.transmit("gen:count=0", frames);
            std::printf("%8zu %12.1f %12.1f %12.1f\n", wire_bytes, null_tx, gen_tx, bench.receive(frames));
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "model_cost: %s\n", error.what());
        return 1;
    }
}
