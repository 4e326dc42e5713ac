#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/vitrine/seccomp.hpp"
#include "apps/vitrine/tunnel_options.hpp"
#include "mem/shared_memory.hpp"

namespace vitrine::apps {

/// Queue pairs that one poll thread serves at most.
inline constexpr unsigned most_pairs = 4;

/// Exactly one of the three ways to the front-end is set.
struct FrontEnd {
    std::string socket_path;   ///< listen here
    std::string connect_path;  ///< connect there, and again after each end
    int descriptor = -1;       ///< inherited: a listening or a connected socket
};

/// What `vitrine run` or `vitrine needs` is told, checked. Units are in the names.
struct Options {
    std::string name = "default";
    std::string run_directory;  ///< of this VM: holds vhost.sock and control.sock
    std::string vf;             ///< as driver::parse_vf_place() reads it
    FrontEnd front_end;
    unsigned pairs = 1;
    std::uint16_t mtu = 1500;  ///< the guest's
    std::string rx_mode = "auto";
    bool guest_dma = false;
    bool packed = false;  ///< packed rings are offered
    std::optional<TunnelOptions> tunnel;
    std::vector<std::uint16_t> vlans;
    std::string multicast = "auto";                             ///< auto, all or list
    std::vector<std::array<std::uint8_t, 6>> multicast_groups;  ///< of `list`
    bool promiscuous = false;
    std::chrono::microseconds idle_spin{50};  ///< spin this long before sleeping
    bool idle_busy = false;                   ///< never sleep
    std::uint32_t pages = 0;                  ///< packet pages; 0: as many as the rings can use
    std::string pages_path;                   ///< rx_mode pages: the region's file
    mem::Backing backing = mem::Backing::huge_or_small;
    bool allow_root = false;
    bool allow_same_uid = false;
    SeccompMode seccomp = SeccompMode::kill;
    std::string log_level = "info";

    /// `vitrine needs`: nothing is run.
    bool only_needs = false;
    bool needs_as_json = false;
    bool only_clean = false;  ///< `vitrine clean`
    std::uint32_t guest_memory_mib = 0;

    /// The wire's MTU: with a tunnel its headers come on top of the guest's packets.
    std::uint16_t link_mtu() const { return static_cast<std::uint16_t>(mtu + (tunnel ? tunnel->overhead_bytes() : 0)); }
    bool is_vfio_user() const { return vf.starts_with("vfio-user:"); }
};

/// The directory that holds the run directories of all VMs: /run/vitrine, or $XDG_RUNTIME_DIR/vitrine without root.
std::string run_root();

/// Reads the command line, below it in rank the environment (VITRINE_VF, which the unit's privileged step finds out),
/// and below that the TOML file of --config. Nothing: the program has said what there was to say (help, version, a
/// usage error) and ends with `exit_code`.
std::optional<Options> parse_options(int argc, char** argv, int& exit_code);

}  // namespace vitrine::apps
