#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "driver/health.hpp"
#include "driver/queues.hpp"
#include "driver/rx_ring.hpp"
#include "driver/statistics.hpp"
#include "driver/tx_ring.hpp"
#include "driver/vf.hpp"
#include "mem/page_pool.hpp"
#include "mem/shared_memory.hpp"
#include "tools/vf_sim/commands.hpp"
#include "tools/vf_sim/vf.hpp"

namespace vitrine::sim_test {

/// The model's time and the driver's are one: who sleeps lets the model go on.
struct ModelClock {
    vf_sim::Vf& model;
    std::chrono::nanoseconds time{std::chrono::seconds(100)};

    std::chrono::nanoseconds now() const { return time; }
    void sleep_for(std::chrono::nanoseconds pause) {
        time += pause;
        model.advance(vf_sim::Time(std::chrono::duration_cast<vf_sim::Time::duration>(time)));
    }
};

/// Our driver on the model in one process and one thread, with a look at its health each second of a clock that only
/// the test moves. What the daemon does about a trouble, this does too: it resets the VF.
class FaultBench {
public:
    static constexpr std::size_t slots = 64, pages = 128, page_bytes = 2048;
    static constexpr mem::EthernetAddress own{0x02, 0x56, 0x46, 0, 0, 1}, outside{0x02, 0, 0, 0, 0, 9};

    FaultBench()
        : model_(policy()),
          clock_{model_},
          memory_(mem::make_shared_memory("fault-bench", ring_area_bytes + 2 * pages * page_bytes,
                                          mem::Backing::small_only)),
          pool_(memory_.mapping.bytes().subspan(ring_area_bytes, pages * page_bytes), base_ + ring_area_bytes,
                page_bytes),
          vf(model_, clock_) {
        REQUIRE(model_.memory().map(base_, memory_.mapping.size(), memory_.file, 0, true, true));
        model_.write_config(4, std::array{std::byte{4}, std::byte{0}});
        clock_.sleep_for(std::chrono::seconds(1));
        start();
    }

    /// From any state to moving frames. Throws what the driver throws.
    void start() {
        stop();
        vf.reset(own);
        vf.set_longest_frame(1518);
        statistics_.begin(model_);
        driver::start_transmit_queue(model_, clock_, 0, {base_ + slots * 16, slots});
        tx_.emplace(descriptors<driver::TxDescriptor>(slots * 16), tail(driver::VFTDT::at(0)));
        driver::start_receive_queue(model_, clock_, 0, {base_, slots}, 2);
        rx_.emplace(descriptors<driver::RxDescriptor>(0), tail(driver::VFRDT::at(0)), pool_);
        rx_->fill();
        health_.begin(progress(), statistics_.update(model_));
    }
    void stop() {
        if (!rx_) return;
        lost += rx_->release();
        tx_->reset([](std::uint64_t) {});
        rx_.reset();
        tx_.reset();
    }

    void fault(const std::string& what) { command("fault " + what); }
    void command(const std::string& line) {
        vf_sim::Vf* const one = &model_;
        vf_sim::execute(line, {&one, 1});
    }

    vf_sim::RxOutcome wire_sends(std::size_t bytes = 60) {
        std::vector<std::byte> frame(bytes);
        mem::write_test_frame(frame, own, outside, {.flow = 0, .sequence = sent_by_wire++});
        return model_.receive(frame);
    }
    /// Good frames that the driver got; the others are dropped as the receive path does.
    std::size_t receive() {
        std::size_t good = 0;
        std::array<driver::Packet, 16> burst;
        while (const std::size_t count = rx_->receive(burst))
            for (const driver::Packet& packet : std::span(burst).first(count)) {
                good += !packet.error && packet.end_of_packet &&
                        mem::read_test_frame(pool_.bytes(packet.page).first(packet.length_bytes)).has_value();
                pool_.give(packet.page);
            }
        return good;
    }
    void send() {
        const std::size_t at = ring_area_bytes + pages * page_bytes;
        mem::write_test_frame(memory_.mapping.bytes().subspan(at, 60), outside, own, {});
        const driver::Fragment fragment{base_ + at, 60};
        REQUIRE(tx_->send({&fragment, 1}, 1) == driver::Sent::queued);
        tx_->flush();
    }
    /// Lets the model send; how many frames left, and the driver has taken back.
    std::size_t transmit() {
        std::size_t left = 0;
        model_.transmit(32, [&](std::span<const std::byte>) { ++left; });
        std::array<std::uint64_t, 32> cookies;
        finished = tx_->reclaim(cookies);
        return left;
    }
    /// A second passes, and the driver looks.
    driver::Troubles second() {
        clock_.sleep_for(std::chrono::seconds(1));
        return health_.look(progress(), statistics_.update(model_), driver::queues_enabled(model_, 1));
    }
    /// Frames both ways again, and a driver that has nothing to complain about.
    void expect_traffic() {
        CHECK(wire_sends() == vf_sim::RxOutcome::delivered);
        CHECK(receive() == 1);
        send();
        CHECK(transmit() == 1);
        CHECK(finished == 1);
        CHECK(second().none());
        const mem::PagePool::Audit audit = pool_.audit();
        CHECK(audit.free_list_agrees);
        CHECK(audit.held[static_cast<std::size_t>(mem::Holder::nic)] == rx_->armed());
        CHECK(audit.held[static_cast<std::size_t>(mem::Holder::device)] == 0);
    }

    vf_sim::Vf& model() { return model_; }
    ModelClock& clock() { return clock_; }
    const driver::RxRing& rx() const { return *rx_; }

private:
    static constexpr std::size_t ring_area_bytes = 0x1000;
    static constexpr mem::Iova base_{0x1'0000'0000};
    static vf_sim::Policy policy() {
        vf_sim::Policy policy;
        policy.mac = own;
        return policy;
    }
    driver::Doorbell tail(std::uint32_t offset) {
        return driver::Doorbell(reinterpret_cast<std::uint32_t*>(model_.doorbells().mapping.data() + offset));
    }
    driver::RingProgress progress() {
        driver::RingProgress progress{.received = rx_->counters()};
        progress.receive[0] = {rx_->position(), rx_->backlog_at_least(1)};
        driver::compare_heads(model_, progress, 1, slots);
        progress.transmit[0] = {tx_->finished(), tx_->in_flight() != 0};
        return progress;
    }
    template <class Descriptor>
    std::span<Descriptor> descriptors(std::size_t offset) {
        return {reinterpret_cast<Descriptor*>(memory_.mapping.data() + offset), slots};
    }

    vf_sim::Vf model_;
    ModelClock clock_;
    mem::SharedMemory memory_;
    mem::PagePool pool_;

public:
    driver::Vf<vf_sim::Vf, ModelClock> vf;
    std::uint64_t sent_by_wire = 0;
    std::size_t lost = 0, finished = 0;

private:
    driver::StatisticsReader statistics_;
    driver::Health health_;
    std::optional<driver::RxRing> rx_;
    std::optional<driver::TxRing> tx_;
};

}  // namespace vitrine::sim_test
