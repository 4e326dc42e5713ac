#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <vector>

#include "driver/interrupts.hpp"
#include "driver/rx_ring.hpp"
#include "driver/tx_ring.hpp"
#include "driver/vf.hpp"
#include "driver/vfio_user_device.hpp"
#include "mem/page_pool.hpp"
#include "mem/shared_memory.hpp"
#include "tests/sim/simulator_thread.hpp"

namespace vitrine::sim_test {

/// The project's own driver on one queue pair of the simulator: rings, a pool, and nothing above.
class DriverBench {
public:
    static constexpr std::size_t ring_slots = 128;
    static constexpr std::size_t rx_pages = 256, tx_pages = 256;

    explicit DriverBench(const std::string& socket_path, std::size_t page_bytes = 2048, std::size_t mtu_bytes = 1500)
        : page_bytes_(page_bytes),
          mtu_bytes_(mtu_bytes),
          device_(socket_path, std::chrono::seconds(5)),
          memory_(mem::make_shared_memory("sim-test", memory_bytes(), mem::Backing::small_only)),
          pool_(memory_.mapping.bytes().subspan(ring_area_bytes, rx_pages * page_bytes), base_iova + ring_area_bytes,
                page_bytes),
          vf_(device_, clock_) {
        device_.write_config(0x04, 0x0004);  // Bus Master
        device_.map_dma(base_iova, {.host = memory_.mapping.bytes(), .file = memory_.file.get(), .file_offset = 0},
                        driver::DmaAccess::device_reads_and_writes);
        start();
    }

    /// From any state to moving frames.
    void start() {
        identity_ = vf_.reset({0x02, 0, 0, 0, 0, 0x77});
        REQUIRE(vf_.set_longest_frame(static_cast<std::uint32_t>(mtu_bytes_ + 18)));
        grant_ = vf_.set_filters({.all_multicast = false});
        start_queues();
    }
    void start_queues() {
        if (rx_) rx_->release();
        if (tx_) tx_->reset([this](std::uint64_t page) { free_tx_.push_back(page); });
        if (free_tx_.empty())
            for (std::size_t page = 0; page < tx_pages; ++page) free_tx_.push_back(page);
        driver::start_transmit_queue(device_, clock_, 0, {base_iova + ring_bytes, ring_slots});
        if (!tx_) {
            tx_.emplace(
                std::span(reinterpret_cast<driver::TxDescriptor*>(memory_.mapping.data() + ring_bytes), ring_slots),
                device_.doorbell(driver::VFTDT::at(0)));
            rx_.emplace(std::span(reinterpret_cast<driver::RxDescriptor*>(memory_.mapping.data()), ring_slots),
                        device_.doorbell(driver::VFRDT::at(0)), pool_);
        }
        driver::start_receive_queue(device_, clock_, 0, {base_iova, ring_slots},
                                    driver::packet_buffer_kib(page_bytes_));
        rx_->fill();
    }
    void stop_queues() {
        driver::stop_receive_queue(device_, clock_, 0);
        driver::stop_transmit_queue(device_, clock_, 0, std::chrono::milliseconds(50));
    }

    /// Receives for as long as frames come at once; `use` gets each whole frame.
    template <class Use>
    std::size_t receive(Use use) {
        std::size_t frames = 0;
        std::array<driver::Packet, 32> burst;
        while (const std::size_t count = rx_->receive(burst)) {
            for (const driver::Packet& packet : std::span(burst).first(count)) {
                REQUIRE_FALSE(packet.error);
                const auto piece = pool_.bytes(packet.page).first(packet.length_bytes);
                frame_.insert(frame_.end(), piece.begin(), piece.end());
                pool_.give(packet.page);
                if (!packet.end_of_packet) continue;
                use(std::span<const std::byte>(frame_));
                frame_.clear();
                ++frames;
            }
        }
        return frames;
    }

    /// False when there is no room now. The frame is cut into pieces of `piece_bytes`.
    template <class Fill>
    bool send(std::size_t bytes, Fill fill, std::size_t piece_bytes = 16384) {
        reclaim();
        if (free_tx_.empty()) return false;
        const std::uint64_t page = free_tx_.back();
        const std::size_t at = ring_area_bytes + (rx_pages + page) * page_bytes_;
        fill(memory_.mapping.bytes().subspan(at, bytes));
        std::vector<driver::Fragment> pieces;
        for (std::size_t done = 0; done < bytes; done += piece_bytes)
            pieces.push_back({base_iova + at + done, static_cast<std::uint32_t>(std::min(piece_bytes, bytes - done))});
        const driver::Sent sent = tx_->send(pieces, page);
        REQUIRE(sent != driver::Sent::refused);
        if (sent == driver::Sent::no_room) return false;
        free_tx_.pop_back();
        return true;
    }
    void flush() { tx_->flush(); }
    void reclaim() {
        std::array<std::uint64_t, 32> pages;
        while (const std::size_t count = tx_->reclaim(pages))
            free_tx_.insert(free_tx_.end(), pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count));
    }
    std::size_t in_flight() const { return tx_->in_flight(); }

    driver::VfioUserDevice& device() { return device_; }
    driver::Vf<driver::VfioUserDevice, driver::SteadyClock>& vf() { return vf_; }
    const driver::Identity& identity() const { return identity_; }
    const driver::FilterGrant& grant() const { return grant_; }

private:
    static constexpr std::size_t ring_bytes = ring_slots * 16;
    static constexpr std::size_t ring_area_bytes = 64 * 1024;
    static constexpr mem::Iova base_iova{0x1'0000'0000};
    std::size_t memory_bytes() const { return ring_area_bytes + (rx_pages + tx_pages) * page_bytes_; }

    std::size_t page_bytes_, mtu_bytes_;
    driver::SteadyClock clock_;
    driver::VfioUserDevice device_;
    mem::SharedMemory memory_;
    mem::PagePool pool_;
    driver::Vf<driver::VfioUserDevice, driver::SteadyClock> vf_;
    driver::Identity identity_;
    driver::FilterGrant grant_;
    std::optional<driver::RxRing> rx_;
    std::optional<driver::TxRing> tx_;
    std::vector<std::uint64_t> free_tx_;
    std::vector<std::byte> frame_;
};

}  // namespace vitrine::sim_test
