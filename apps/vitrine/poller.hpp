#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "apps/vitrine/counters.hpp"
#include "apps/vitrine/receive_path.hpp"
#include "apps/vitrine/transmit_path.hpp"
#include "driver/interrupts.hpp"
#include "mem/handover.hpp"

namespace vitrine::apps {

/// One queue pair as the poll thread sees it.
struct Pair {
    ReceivePathCounters receive_counters;
    TransmitPathCounters transmit_counters;
    ReceivePath receive;
    TransmitPath transmit;

    Pair(mem::PagePool& packets, mem::PagePool& bounce, virtio::Device& device, unsigned number, bool guest_dma,
         Tunnel* tunnel = nullptr)
        : receive(packets, device, number, receive_counters, tunnel),
          transmit(bounce, device, number, guest_dma, transmit_counters, tunnel) {}
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
};

struct IdlePolicy {
    std::chrono::microseconds spin{50};
    bool never_sleep = false;
};

/// The poll thread: moves bursts for all pairs; when nothing moved for a while it asks the VF and the guest for
/// notifications and sleeps. While there is work it makes no system call but the guest's interrupt and, with trapped
/// doorbells, the posted tail writes.
class Poller {
public:
    Poller(virtio::Device& device, std::vector<std::unique_ptr<Pair>>& pairs, IdlePolicy idle,
           Tunnel* tunnel = nullptr);
    ~Poller();
    Poller(const Poller&) = delete;
    Poller& operator=(const Poller&) = delete;

    /// The poll thread calls `first` before anything else.
    void start(const std::function<void()>& first = [] {});
    /// Control thread: the poll thread stands still while the result lives.
    mem::Handover::Hold hold() { return handover_.take(); }

    /// Inside a hold: how to ask the VF for an interrupt before sleeping, and the eventfd that it signals. Nothing: no
    /// VF.
    struct VfInterrupt {
        driver::QueueInterrupt source;
        int event;
    };
    void set_vf_interrupt(std::optional<VfInterrupt> interrupt) { vf_interrupt_ = interrupt; }

    /// Loops with and without work, and sleeps: how busy the thread is. Any thread.
    struct Turns {
        std::uint64_t busy, idle, sleeps;
    };
    Turns turns() const;

private:
    void run() noexcept;
    std::size_t poll() noexcept;
    void sleep() noexcept;
    void want_kicks(bool wanted) noexcept;

    virtio::Device& device_;
    std::vector<std::unique_ptr<Pair>>& pairs_;
    IdlePolicy idle_policy_;
    Tunnel* tunnel_;
    mem::Handover handover_;
    std::optional<VfInterrupt> vf_interrupt_;
    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> busy_turns_ = 0, idle_turns_ = 0, sleeps_ = 0;
    std::thread thread_;
};

}  // namespace vitrine::apps
