#include "apps/guest/options.hpp"

#include <charconv>
#include <cstdio>
#include <map>

#include <CLI/CLI.hpp>

#include "virtio/split_ring.hpp"

namespace vitrine::guest {
namespace {

constexpr const char* description =
    "vitrine-guest is a virtio-net driver that checks every rule which the device must keep on the rings. With "
    "--socket\n"
    "it plays a virtual machine without one: the vhost-user front-end (in cloud-hypervisor's order) and the guest's\n"
    "driver in one process. With --pci it drives a device of the virtual machine that it runs in.\n";

constexpr const char* footer =
    "Modes:\n"
    "  rx     counts what arrives; --pcap-out keeps it\n"
    "  check  rx, and every frame must carry a valid stamp (sequence and CRC-32), as `vf_sim --wire gen:` sends them\n"
    "  tx     sends stamped frames, or a capture with --pcap-in, and waits until the device has used them all\n"
    "  echo   sends back what arrives, addresses swapped\n"
    "  serve  lets other processes read what arrives in place, one at a time, at --door (docs/zero_copy.md)\n"
    "  perf   reads a stream in three ways (copied to a buffer, in place when woken, in place by polling) with 4 to\n"
    "         512 KiB gathered for each wake-up, and prints the table. It needs pages and a stream that does not end:\n"
    "         `vf_sim --wire gen:size=1518`, `vitrine run --rx pages --pages-path PAGES`, and --socket or --pci with\n"
    "         --pages, or the --door of one who serves. Frames that are held are at most 4 for each entry of\n"
    "         --queue-size, and 1024: with small frames a wake-up has fewer bytes than asked for\n"
    "\n"
    "Sizes are wire sizes with CRC: 64 is a frame of 60 bytes in memory. Byte counts are without CRC.\n"
    "A run ends at --count frames, after --seconds, or when nothing moved for --idle-seconds.\n"
    "Exit code: 0 when no frame was bad and no rule was broken, 1 otherwise or when the run failed, 2 for a wrong\n"
    "command line. Lost frames are printed; they are not bad by themselves.\n"
    "\n"
    "Examples:\n"
    "  vitrine-guest check --socket /run/vitrine/vm1/vhost.sock --count 1000000\n"
    "  vitrine-guest tx --socket vhost.sock --count 1000 --size 1518 --flows 4 --rate 10000\n"
    "  vitrine-guest rx --socket vhost.sock --seconds 10 --pcap-out arrived.pcap --json\n"
    "  vitrine-guest perf --socket vhost.sock --pages /tmp/v/pages\n"
    "  vitrine-guest check --pci 0000:00:03.0 --pages pci";

/// "02:00:00:00:00:fe".
bool parse_address(const std::string& text, mem::EthernetAddress& address) {
    if (text.size() != 3 * address.size() - 1) return false;
    for (std::size_t i = 0; i < address.size(); ++i) {
        const char* const begin = text.data() + 3 * i;
        if (std::from_chars(begin, begin + 2, address[i], 16).ptr != begin + 2) return false;
        if (i + 1 < address.size() && begin[2] != ':') return false;
    }
    return true;
}

/// What --packed on excludes. Empty: nothing that is asked for.
std::string packed_contradiction(const Options& options, bool in_place) {
    if (!options.packed) return {};
    if (in_place) return "--packed on is not for serve and perf: their port has split rings";
    if (options.reconnect_seconds != 0) return "--reconnect: not with --packed on, such rings end with the back-end";
    if (!options.offset_path.empty()) return "--offset: not with --packed on, it is for split rings";
    if (!options.pci_address.empty() && !options.pages_path.empty())
        return "--pages: not with --packed on and --pci, as no VMM passes feature bit 58 on";
    return {};
}

/// What each option alone cannot say. Empty: all is well.
std::string contradiction(const Options& options) {
    const bool sends_capture = !options.pcap_in.empty();
    const bool in_place = options.mode == Mode::serve || options.mode == Mode::perf;
    if (const std::string why = packed_contradiction(options, in_place); !why.empty()) return why;
    if (!options.packed && !virtio::valid_ring_entries(options.queue_size))
        return "--queue-size must be a power of two without --packed on";
    if (options.mode == Mode::serve && options.door_path.empty()) return "serve needs --door";
    if (!in_place && !options.door_path.empty()) return "--door is for serve and perf";
    if (options.mode == Mode::perf && !options.door_path.empty()) {
        if (!options.socket_path.empty() || !options.pci_address.empty() || !options.pages_path.empty())
            return "who serves at --door has --socket or --pci, and --pages: not both";
        return {};
    }
    const bool in_vm = !options.pci_address.empty();
    if (in_vm != options.socket_path.empty()) return "needs either --socket or --pci";
    if (in_vm && options.listen) return "--listen is for --socket";
    if (in_vm && (options.queues != 1 || options.reconnect_seconds != 0))
        return "--queues and --reconnect need --socket";
    if (in_vm && options.backing == mem::Backing::small_only) return "--pci needs huge pages: not --memory memfd";
    if (in_place && options.pages_path.empty()) return "serve and perf need --pages";
    if (in_place && options.listen) return "--listen is not for serve and perf";
    if (!options.offset_path.empty() && (!options.pages_path.empty() || in_place)) return "--offset: not with --pages";
    if (options.queues != 1 && options.pages_path.empty()) return "--queues: more than one only with --pages";
    if (options.hoard && (options.pages_path.empty() || *options.hoard >= options.queues))
        return "--hoard names one of the --queues that receive from --pages";
    if (options.hold != 0 && (options.mode != Mode::check || options.pages_path.empty()))
        return "--hold keeps pages and checks them again: only with check and --pages";
    if (options.mode == Mode::tx) {
        if (!options.pcap_out.empty()) return "--pcap-out keeps what arrives: not with tx";
        if (!options.count && !options.seconds && !sends_capture) return "tx needs --count, --seconds or --pcap-in";
    } else {
        if (sends_capture) return "--pcap-in is sent: only with tx";
        if (options.frames_per_second != 0) return "--rate is for sending: only with tx";
    }
    return {};
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv, int& exit_code) {
    Options options;
    std::string destination;
    const std::map<std::string, Mode> modes{{"rx", Mode::rx},       {"tx", Mode::tx},       {"echo", Mode::echo},
                                            {"check", Mode::check}, {"serve", Mode::serve}, {"perf", Mode::perf}};
    const std::map<std::string, mem::Backing> backings{
        {"auto", mem::Backing::huge_or_small}, {"huge", mem::Backing::huge_only}, {"memfd", mem::Backing::small_only}};
    const std::map<std::string, bool> switches{{"on", true}, {"off", false}};

    CLI::App app(description);
    app.footer(footer);
    app.set_version_flag("--version", std::string("vitrine-guest " VITRINE_VERSION));
    const auto word_of = [](const auto& words) {
        return CLI::Validator(
            [words](std::string& word) -> std::string {
                const auto found = words.find(word);
                if (found == words.end()) return word + " is none of " + CLI::detail::generate_map(words, true);
                word = std::to_string(static_cast<int>(found->second));
                return {};
            },
            CLI::detail::generate_map(words, true));
    };
    app.add_option("mode", options.mode, "What to do, see below")->required()->transform(word_of(modes));
    app.add_option("--socket", options.socket_path, "The vhost-user socket of the back-end");
    app.add_flag("--listen", options.listen, "Wait for the back-end to connect, instead of connecting to it");
    app.add_option("--pci", options.pci_address, "Inside a VM, as root: the virtio network device at this PCI address");

    constexpr const char* run = "When it ends";
    app.add_option("--count", options.count, "After this many frames")->check(CLI::PositiveNumber)->group(run);
    app.add_option("--seconds", options.seconds, "After this time")->check(CLI::Range(1u, 1'000'000u))->group(run);
    app.add_option("--idle-seconds", options.idle_seconds, "When nothing moved for so long after the first frame")
        ->check(CLI::Range(1u, 1'000'000u))
        ->capture_default_str()
        ->group(run);
    app.add_option("--wait-seconds", options.wait_seconds, "Limit for the back-end and for the first frame to come")
        ->check(CLI::Range(1u, 1'000'000u))
        ->capture_default_str()
        ->group(run);

    app.add_option("--reconnect", options.reconnect_seconds,
                   "Live on for so many seconds when the back-end goes, with rings and pages, until it is back "
                   "(default 0: end)")
        ->check(CLI::Range(0u, 1'000'000u))
        ->group(run);

    constexpr const char* frames = "Frames";
    app.add_option("--size", options.wire_bytes, "Size of sent frames on the wire, with CRC")
        ->check(CLI::Range(mem::least_test_frame_bytes + crc_bytes, most_wire_bytes))
        ->capture_default_str()
        ->group(frames);
    app.add_option("--flows", options.flows, "Flows (UDP ports) of sent frames")
        ->check(CLI::Range(1u, 50'000u))
        ->capture_default_str()
        ->group(frames);
    app.add_option("--rate", options.frames_per_second, "Frames per second to send (default: as fast as it goes)")
        ->check(CLI::Range(1u, 1'000'000'000u))
        ->group(frames);
    app.add_option("--destination", destination, "Ethernet address to send to (default 02:00:00:00:00:fe)")
        ->group(frames);
    app.add_option("--pcap-in", options.pcap_in, "Send the frames of this capture")->group(frames);
    app.add_option("--pcap-out", options.pcap_out, "Write what arrives to this file")->group(frames);

    constexpr const char* applications = "Applications";
    app.add_option("--door", options.door_path, "Socket at which applications are served")->group(applications);
    app.add_option("--bytes", options.row_bytes, "perf: to read for each row; k, m, g")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 50))
        ->group(applications);
    app.add_option("--check", options.check, "perf: check every frame, as mode check does (default on)")
        ->transform(word_of(switches))
        ->group(applications);

    constexpr const char* driver = "The driver it plays";
    app.add_option("--queue-size", options.queue_size, "Entries of each ring; without --packed on a power of two")
        ->check(CLI::Range(2, 32768))
        ->capture_default_str()
        ->group(driver);
    app.add_option(
           "--pages", options.pages_path,
           "Receive in place from packet pages (vitrine run --rx pages): in this file, or with --pci in the shared "
           "memory device (ivshmem) that has them: pci, or pci:ADDRESS")
        ->group(driver);
    app.add_option("--offset", options.offset_path,
                   "Receive into large buffers, each at the offset that the device names; with vitrine run --guest-dma "
                   "on the NIC itself writes there. What is named is that of --pages")
        ->group(driver);
    app.add_option("--queues", options.queues, "With --pages: receive queues that run (vitrine run --queues)")
        ->check(CLI::IsMember({1u, 2u, 4u}))
        ->capture_default_str()
        ->group(driver);
    app.add_option("--hoard", options.hoard, "With --pages: never give back what comes by this queue, from 0")
        ->group(driver);
    app.add_option("--hold", options.hold,
                   "With --pages: keep so many frames before giving back the oldest, and check each again then")
        ->check(CLI::Range(0u, 65535u))
        ->group(driver);
    app.add_option("--memory", options.backing, "Guest memory: huge pages, memfd, or auto: huge if there are any")
        ->transform(word_of(backings))
        ->group(driver);
    app.add_option("--packed", options.packed,
                   "Packed rings, which the device must offer: vitrine run --packed on (default off)")
        ->transform(word_of(switches))
        ->group(driver);
    app.add_option("--merge", options.merge, "Mergeable receive buffers (default on)")
        ->transform(word_of(switches))
        ->group(driver);
    app.add_option("--indirect", options.indirect, "Indirect descriptors, header apart (default off)")
        ->transform(word_of(switches))
        ->group(driver);
    app.add_option("--event-index", options.event_index, "Event index (default on)")
        ->transform(word_of(switches))
        ->group(driver);
    unsigned spin_microseconds = static_cast<unsigned>(options.spin.count());
    app.add_option("--spin", spin_microseconds, "Microseconds to spin before sleeping")
        ->check(CLI::Range(0u, 1'000'000'000u))
        ->capture_default_str()
        ->group(driver);
    app.add_flag("--json", options.json, "Print the result as one JSON object");

    try {
        app.parse(argc, argv);
        options.spin = std::chrono::microseconds(spin_microseconds);
        if (!destination.empty() && !parse_address(destination, options.destination))
            throw CLI::ValidationError("--destination", destination + " is no Ethernet address");
        if (const std::string why = contradiction(options); !why.empty()) throw CLI::ValidationError(why);
    } catch (const CLI::Success& success) {
        exit_code = app.exit(success);
        return std::nullopt;
    } catch (const CLI::Error& error) {
        std::fprintf(stderr, "vitrine-guest: %s (vitrine-guest --help)\n", error.what());
        exit_code = 2;
        return std::nullopt;
    }
    return options;
}

}  // namespace vitrine::guest
