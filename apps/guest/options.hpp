#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "mem/shared_memory.hpp"
#include "mem/test_frame.hpp"

namespace vitrine::guest {

enum class Mode { rx, tx, echo, check, serve, perf };

/// What the command line asks for. Frame sizes are wire sizes: with the CRC that only the wire sees.
struct Options {
    Mode mode = Mode::rx;
    std::string socket_path;
    std::string pci_address;  ///< of the device instead, inside a VM
    bool listen = false;

    std::optional<std::uint64_t> count;
    std::optional<std::uint64_t> seconds;
    std::uint64_t idle_seconds = 5;
    std::uint64_t wait_seconds = 30;
    std::uint64_t reconnect_seconds = 0;  ///< how long the back-end may be away; 0: the run ends when it goes

    std::size_t wire_bytes = 64;
    std::uint32_t flows = 1;
    std::uint64_t frames_per_second = 0;
    mem::EthernetAddress destination{0x02, 0, 0, 0, 0, 0xfe};
    std::string pcap_in;
    std::string pcap_out;

    std::string door_path;                  ///< serve: of the socket for applications; perf: of somebody's who serves
    std::uint64_t row_bytes = 16ull << 20;  ///< perf: read for each row of the table
    bool check = true;                      ///< perf: every frame must be as vf_sim sends them

    std::uint16_t queue_size = 256;
    std::string pages_path;         ///< of the region to receive from, in place (see find_region); empty: into buffers
    std::string offset_path;        ///< the same, to receive into buffers at an offset that the device names
    unsigned queues = 1;            ///< receive queues with pages
    std::optional<unsigned> hoard;  ///< the queue whose pages are never given back
    std::uint32_t hold = 0;         ///< frames to keep in their pages before they are given back
    mem::Backing backing = mem::Backing::huge_or_small;
    bool packed = false;
    bool merge = true;
    bool indirect = false;
    bool event_index = true;
    std::chrono::microseconds spin{50};
    bool json = false;
};

inline constexpr std::size_t crc_bytes = 4;
/// 9000 bytes of MTU, Ethernet header, CRC and two VLAN tags.
inline constexpr std::size_t most_wire_bytes = 9026;

/// Reads the command line. Nothing: it is done with already (help, or an error of one line), end with `exit_code`.
std::optional<Options> parse_options(int argc, const char* const* argv, int& exit_code);

}  // namespace vitrine::guest
