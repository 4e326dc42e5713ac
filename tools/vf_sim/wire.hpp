#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "mem/test_frame.hpp"
#include "tools/vf_sim/interrupts.hpp"

namespace vitrine::vf_sim {

/// The cable and what hangs on its other end. Frames are without CRC.
class Wire {
public:
    static constexpr std::size_t most_frame_bytes = 16384;

    virtual ~Wire() = default;

    /// The frame at the head, the same until it is taken; empty when there is none now. Valid until taken.
    /// `station` is the VF's address, for wires that make frames up.
    virtual std::span<const std::byte> next(Time now, const mem::EthernetAddress& station) = 0;
    virtual void take() = 0;
    /// What happens when the VF cannot take the head: true, it waits (as with pause frames); false, it is dropped.
    virtual bool waits() const = 0;
    /// True: the first frame is held back until the VF can receive. False: whoever sends does not care.
    virtual bool starts_when_ready() const = 0;
    /// Nothing more will come.
    virtual bool done() const = 0;
    /// A frame that the VF sent.
    virtual void transmit(std::span<const std::byte> frame) = 0;
    /// Becomes readable when a frame comes; -1: none.
    virtual int descriptor() const { return -1; }
    /// When the next frame is due, if time decides that.
    virtual std::optional<Time> due() const { return std::nullopt; }
    /// What the wire itself knows, added to the status.
    virtual void report(nlohmann::json& status) const = 0;
};

/// `tap:NAME`, `pcap:in=FILE,out=FILE,rate=PPS`, `gen:size=BYTES,rate=PPS,flows=N,count=N` or `null`.
/// Throws std::invalid_argument for a bad description and std::system_error for what cannot be opened.
std::unique_ptr<Wire> make_wire(const std::string& description);

}  // namespace vitrine::vf_sim
