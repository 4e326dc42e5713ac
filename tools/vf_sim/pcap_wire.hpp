#pragma once

#include <array>
#include <memory>
#include <string>

#include <pcap/pcap.h>

#include "tools/vf_sim/pace.hpp"
#include "tools/vf_sim/wire.hpp"

namespace vitrine::vf_sim {

/// Replays one capture, once and in order, and writes what the VF sends into another.
class PcapWire final : public Wire {
public:
    struct Options {
        std::string in;   ///< none: nothing comes
        std::string out;  ///< none: what is sent is swallowed
        double rate = 0;  ///< frames per second; 0: as fast as descriptors come
    };
    /// Throws std::runtime_error naming the file.
    explicit PcapWire(const Options& options);

    std::span<const std::byte> next(Time now, const mem::EthernetAddress& station) override;
    void take() override;
    bool waits() const override { return !pace_; }
    bool starts_when_ready() const override { return true; }
    bool done() const override { return done_; }
    void transmit(std::span<const std::byte> frame) override;
    std::optional<Time> due() const override;
    void report(nlohmann::json& status) const override;

private:
    struct Close {
        void operator()(pcap_t* capture) const { pcap_close(capture); }
        void operator()(pcap_dumper_t* dump) const { pcap_dump_close(dump); }
    };

    std::unique_ptr<pcap_t, Close> in_, format_;
    std::unique_ptr<pcap_dumper_t, Close> out_;
    std::optional<Pace> pace_;
    std::span<const std::byte> head_;
    bool done_ = false;
    std::uint64_t cut_off_ = 0;  // shorter in the file than they were, so never sent
    std::array<std::byte, 60> padded_;
};

}  // namespace vitrine::vf_sim
