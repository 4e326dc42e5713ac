#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "mem/shared_memory.hpp"
#include "tools/vf_sim/config_space.hpp"
#include "tools/vf_sim/counters.hpp"
#include "tools/vf_sim/dma_map.hpp"
#include "tools/vf_sim/faults.hpp"
#include "tools/vf_sim/hardware_statistics.hpp"
#include "tools/vf_sim/interrupts.hpp"
#include "tools/vf_sim/mailbox.hpp"
#include "tools/vf_sim/physical_function.hpp"
#include "tools/vf_sim/queue_registers.hpp"
#include "tools/vf_sim/rate_limit.hpp"
#include "tools/vf_sim/ring_watch.hpp"
#include "tools/vf_sim/rules.hpp"
#include "tools/vf_sim/tx_engine.hpp"

namespace vitrine::vf_sim {

enum class Origin { wire, function };

/// One virtual function with its PF: everything behind BAR0 and configuration space, between the bus and the wire.
/// One thread. Time comes in through advance().
class Vf {
public:
    /// `port`: what the VFs of one port share; none: the VF has a port of its own.
    explicit Vf(const Policy& policy, std::shared_ptr<Port> port = {});

    // The bus.
    std::uint32_t load(std::uint32_t offset);  ///< BAR0, multiple of 4 below driver::bar0_bytes
    void store(std::uint32_t offset, std::uint32_t value);
    ConfigSpace& config() { return config_; }
    void read_config(std::size_t offset, std::span<std::byte> to) const;
    void write_config(std::size_t offset, std::span<const std::byte> bytes);
    void function_level_reset();
    /// The client is gone: its memory and eventfds are dropped, and the function is reset.
    void detach();
    DmaMap& memory() { return memory_; }
    const DmaMap& memory() const { return memory_; }
    Interrupts& interrupts() { return interrupts_; }
    /// All of BAR0 as shared memory, of which pages 1 and 2 may be mapped by the client. Only tails are read from it.
    const mem::SharedMemory& doorbells() const { return doorbells_; }

    // The wire.
    /// What becomes of a frame (14 bytes or more, without CRC) that arrives at the port. Counts nothing but the VF's
    /// own statistics.
    RxOutcome receive(std::span<const std::byte> frame, Origin origin = Origin::wire) noexcept;
    /// Takes up to `budget` frames or contexts from each queue and gives what may leave to `send`. Returns how many.
    template <class Send>
    std::size_t transmit(std::size_t budget, Send send) noexcept {
        std::size_t taken = 0;
        if (!link_up_ || !pf_.transmit_enabled() || !config_.bus_master() || faults_.stop_transmit()) return taken;
        const std::uint16_t port_vlan = pf_.policy().port_vlan;
        for (unsigned queue = 0; queue < queues_; ++queue) {
            if (!tx_[queue].enabled()) continue;
            for (std::size_t left = budget; left > 0 && rates_[queue].allows(pf_.policy().rate_mbps); --left, ++taken) {
                const TxEngine::Frame frame = engines_[queue]->take();
                if (!frame.taken) break;
                if (!frame.bytes.empty() && allowed_to_send(frame.bytes)) {
                    const auto bytes = port_vlan != 0 ? engines_[queue]->insert_tag(port_vlan) : frame.bytes;
                    count_sent(bytes.size());
                    rates_[queue].spend(bytes.size());
                    send(bytes);
                }
                if (!faults_.tx_lost) engines_[queue]->complete(frame);
                if (frame.report) interrupts_.raise_tx(queue);
            }
        }
        return taken;
    }
    /// Interrupts, and what the PF does by itself.
    void advance(Time now) noexcept;
    std::optional<Time> due() const noexcept;

    /// Memory is about to go: call it before memory().unmap().
    void unmapping(mem::Iova address, std::uint64_t bytes) noexcept;

    // The administrator. What a Linux PF does on each: most act at once; trust and link state also ask the VF, by a
    // ping without CTS, to reset itself.
    void set_mac(std::optional<EthernetAddress> mac) { pf_.set_mac(mac); }
    void set_port_vlan(std::uint16_t vlan) { pf_.set_port_vlan(vlan); }  ///< 0: none
    void set_trusted(bool trusted);
    void set_spoof_check(bool on) { pf_.set_spoof_check(on); }
    void set_rate(unsigned mbps);  ///< 0: no limit
    void set_link_state(LinkState state);
    void set_rss_query(bool allowed) { pf_.policy().rss_query = allowed; }
    void set_promiscuous(bool on) { pf_.policy().promiscuous = on; }
    /// A change of the PF's MTU is a reset of the PF: of the port, with all its VFs.
    void set_mtu(unsigned bytes, std::chrono::milliseconds length);
    void set_link(bool up);
    /// By the host, behind the back of whoever drives it.
    void reset_function();
    /// The PF driver restarts: RSTI now, RSTD after `length`. LINUX: it pings, without CTS, at both ends.
    void reset_pf(std::chrono::milliseconds length);

    /// On command, things go wrong: all at once what was not so before, until what was is no more.
    void set_faults(const Faults& faults);
    const Faults& faults() const { return faults_; }

    bool link_up() const { return link_up_; }
    /// Frames were shown and have not been taken: reason for the PF to reset the port when the link is lost.
    bool transmit_pending() const noexcept;
    bool ready_to_receive() const noexcept;  ///< some queue is enabled and the PF lets frames through
    const PhysicalFunction& pf() const { return pf_; }
    const Rules& rules() const { return rules_; }
    const TxCounters& tx_counters() const { return tx_counters_; }
    unsigned enabled_queues(Direction direction) const;
    std::uint64_t messages_lost() const { return messages_lost_; }

private:
    std::uint32_t load_queue(const std::vector<QueueRegisters>& queues, std::uint32_t offset) const;
    std::uint32_t load_page_0(std::uint32_t offset);
    void store_page_0(std::uint32_t offset, std::uint32_t value);
    void store_mailbox(std::uint32_t value);
    void store_queue(Direction direction, std::uint32_t offset, std::uint32_t value);
    std::uint32_t* own_rss_word(std::uint32_t offset);
    std::uint32_t load_links();
    void reset_queues_and_interrupts();
    void forget_programming();
    void post(std::span<const std::uint32_t> message);
    void ping();
    void restart_vf();
    void update_own_rss();
    bool allowed_to_send(std::span<const std::byte> frame) noexcept;
    void count_sent(std::size_t bytes) noexcept;

    ConfigSpace config_;
    DmaMap memory_;
    Interrupts interrupts_;
    Mailbox mailbox_;
    PhysicalFunction pf_;
    Rules rules_;
    mem::SharedMemory doorbells_;
    unsigned queues_;  ///< that the hardware gives this VF; what the PF grants may be fewer
    std::vector<QueueRegisters> rx_, tx_;
    std::vector<RingWatch> rx_watch_, tx_watch_;
    TxCounters tx_counters_;
    std::vector<std::unique_ptr<TxEngine>> engines_;
    std::array<RateLimit, driver::queue_slots> rates_;
    HardwareStatistics statistics_;
    std::uint32_t packet_split_ = 0;                          // VFPSRTYPE
    std::array<std::uint32_t, 1 + 10 + 16> own_rss_words_{};  // VFMRQC, VFRSSRK, VFRETA
    Rss own_rss_;
    Faults faults_;
    SpoiledWriteBacks spoiled_;
    Time next_flap_{};
    bool link_up_ = true;
    bool link_steady_ = true;  // up since VFLINKS was last read
    Time now_{};
    std::optional<Time> pf_back_;
    std::uint64_t messages_lost_ = 0;
};

}  // namespace vitrine::vf_sim
