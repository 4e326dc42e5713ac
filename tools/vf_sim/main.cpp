#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/vf_sim/commands.hpp"
#include "tools/vf_sim/simulator.hpp"
#include "tools/vf_sim/text.hpp"

namespace {

using namespace vitrine;
using vf_sim::EthernetAddress;
using vf_sim::VlanSet;

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

constexpr const char* examples = R"(
The socket speaks vfio-user: `vitrine run --vf vfio-user:PATH`, or QEMU's vfio-user-pci device. The simulator sees only
memory that was mapped for DMA; anything else is a fault that it counts. Sizes of frames include the CRC.

Wires:
  null                                 swallows what the VF sends, sends nothing
  tap:NAME                             a tap device, made if it is not there
  pcap:in=FILE,out=FILE,rate=PPS       replays in order once the VF receives; records what it sends
  gen:size=BYTES,rate=PPS,flows=N,count=N
                                       stamped frames to the VF, and a check of those that it sends;
                                       size=LEAST-MOST: of many sizes
  Without a rate, gen and pcap wait for a descriptor, as under pause frames; with one, frames that find none are lost.

Examples:
  vf_sim --socket /tmp/vf.sock --wire gen:size=64,count=100000 --doorbells poll --control /tmp/sim.sock
  vf_sim --socket /tmp/vf.sock --wire gen:size=9018,flows=4 --pf-mtu 9000
  vf_sim --socket /tmp/vf.sock --wire pcap:in=mixed.pcap --part x550 --trust --pf-promiscuous
  vf_sim --socket /tmp/vf.sock --wire tap:wire0
  echo status | nc -U /tmp/sim.sock              one JSON object: offered = rx_delivered + the sum of drops
  echo 'link down' | nc -U /tmp/sim.sock         or another of the commands below
  vf_sim --socket /tmp/vf0.sock,/tmp/vf1.sock    two functions and the switch between them, on one port

SIGTERM and SIGINT end it: it prints the same object and removes its sockets.
Exit: 0, 1 when something cannot be opened, 2 for a wrong option.)";

std::vector<EthernetAddress> parse_addresses(const std::vector<std::string>& texts) {
    std::vector<EthernetAddress> addresses;
    for (const std::string& text : texts) {
        const auto address = vf_sim::parse_address(text);
        if (!address)
            throw std::invalid_argument("--mac " + text + ": not a unicast address like 02:00:00:00:00:01, nor 'none'");
        addresses.push_back(*address);
    }
    return addresses;
}

VlanSet parse_vlans(const std::string& text) {
    VlanSet vlans;
    if (text == "any") return vlans.set();
    if (text == "none") return vlans;
    std::istringstream list(text);
    for (std::string item; std::getline(list, item, ',');) {
        const auto vlan = vf_sim::parse_number(item, 0, 4094);
        if (!vlan) throw std::invalid_argument("--vlans: '" + item + "' is not a VLAN from 0 to 4094");
        vlans.set(*vlan);
    }
    return vlans;
}

void catch_signals() {
    struct sigaction action{};
    action.sa_handler = [](int) { stop.store(true); };  // without SA_RESTART: a sleep ends
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a client may pass us the end of a pipe as its eventfd
}

}  // namespace

int main(int argc, char** argv) {
    using driver::MailboxApi;
    using vf_sim::Part;
    vf_sim::Options options;
    std::vector<std::string> macs{"02:56:46:00:00:01"};
    std::string vlans = "any", doorbells = "trap", poll = "adaptive", spoof_check = "on";
    std::vector<std::string> commands;

    CLI::App app{
        "A software virtual function of an Intel 82599, X540 or X550, with its PF, behind a vfio-user socket."};
    app.footer(examples + ("\n\nCommands:\n" + vf_sim::command_help()));
    app.get_formatter()->column_width(34);
    app.add_option("--socket", options.socket_paths,
                   "one function behind each; a client that goes makes room for the next")
        ->required()
        ->delimiter(',')
        ->option_text("PATH[,PATH...]");
    app.add_option("--wire", options.wire, "what hangs on the other end of the cable (default null)")
        ->option_text("WIRE");
    app.add_option("--control", options.control_path, "socket for commands: one line in, one JSON line out")
        ->option_text("PATH");
    app.add_option("--command", commands, "a command at the start, e.g. 'vf 1 vlan 5'; may be repeated")
        ->allow_extra_args(false)
        ->option_text("COMMAND");
    app.add_option("--script", options.script_path, "the same commands with times: lines of MILLISECONDS COMMAND")
        ->option_text("FILE");
    app.add_option("--part", options.policy.part, "the silicon (default 82599)")
        ->transform(CLI::CheckedTransformer(
            std::map<std::string, Part>{{"82599", Part::i82599}, {"x540", Part::x540}, {"x550", Part::x550}}))
        ->option_text("82599|x540|x550");
    app.add_option("--doorbells", doorbells, "ring tails as mapped memory, or every access a message (default trap)")
        ->check(CLI::IsMember({"poll", "trap"}))
        ->option_text("poll|trap");
    app.add_option("--poll", poll, "sleep when idle, or never (default adaptive)")
        ->check(CLI::IsMember({"adaptive", "busy"}))
        ->option_text("adaptive|busy");

    app.add_flag("--strict", options.policy.strict,
                 "count every rule of docs/vf_sim.md that the driver breaks; needs --doorbells trap");

    auto* pf = app.add_option_group("PF", "what the administrator of the physical function decided");
    pf->add_option(
          "--mac", macs,
          "of the first function, the others count on; or one for each; or none: the VF makes one up (default " +
              macs.front() + ")")
        ->delimiter(',')
        ->option_text("ADDRESS[,ADDRESS...]|none");
    pf->add_option("--queues", options.policy.queues, "queue pairs granted (default 1)")
        ->check(CLI::IsMember({1, 2, 4, 8}))
        ->option_text("1|2|4|8");
    pf->add_option("--pf-mtu", options.policy.mtu_bytes, "MTU of the PF (default 1500)")
        ->check(CLI::Range(1500, 9710))
        ->option_text("BYTES");
    pf->add_option("--api", options.policy.api_ceiling, "newest mailbox API that it accepts (default 1.3)")
        ->transform(CLI::CheckedTransformer(std::map<std::string, MailboxApi>{{"1.0", MailboxApi::v1_0},
                                                                              {"1.1", MailboxApi::v1_1},
                                                                              {"1.2", MailboxApi::v1_2},
                                                                              {"1.3", MailboxApi::v1_3},
                                                                              {"1.4", MailboxApi::v1_4}}))
        ->option_text("1.0|1.1|1.2|1.3|1.4");
    pf->add_option("--vlans", vlans, "VLANs that the VF may join (default any)")->option_text("any|none|LIST");
    pf->add_flag("--trust", options.policy.trusted, "the VF may change its address and ask for all multicast");
    pf->add_flag("--pf-promiscuous", options.policy.promiscuous,
                 "the PF is promiscuous: a trusted VF may be too, except on the 82599");
    pf->add_option("--spoof-check", spoof_check, "drop what the VF sends from other addresses or VLANs (default on)")
        ->check(CLI::IsMember({"on", "off"}))
        ->option_text("on|off");
    pf->add_flag("--mdd", options.policy.mdd,
                 "malicious-driver detection, which the x550 has: a queue stops for what it finds");
    pf->add_option("--multicast-filter", options.policy.multicast_filter_type,
                   "which address bits are hashed (default 0)")
        ->check(CLI::Range(0, 3))
        ->option_text("0..3");
    pf->add_flag("--rss-query", options.policy.rss_query, "the VF may read the hash key and table (82599, X540)");
    pf->add_flag("--rss-udp", options.policy.rss_udp, "UDP ports take part in the hash (82599, X540)");

    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        std::cerr << "vf_sim: " << error.what() << " (vf_sim --help)\n";
        return 2;
    }
    try {
        options.offer_doorbells = doorbells == "poll";
        options.busy = poll == "busy";
        options.policy.spoof_check = spoof_check == "on";
        if (macs != std::vector<std::string>{"none"}) options.addresses = parse_addresses(macs);
        if (options.addresses.size() == 1) options.policy.mac = options.addresses.front();
        if (options.addresses.size() == 1) options.addresses.clear();
        options.policy.vlans = parse_vlans(vlans);
        catch_signals();
        vf_sim::Simulator simulator(options);
        for (const std::string& command : commands)
            if (const auto answer = nlohmann::json::parse(simulator.command(command)); answer.contains("error"))
                throw std::invalid_argument("--command '" + command + "': " + answer["error"].get<std::string>());
        simulator.run(stop);
        std::cout << simulator.status().dump() << '\n';
        return 0;
    } catch (const std::invalid_argument& error) {
        std::cerr << "vf_sim: " << error.what() << '\n';
        return 2;
    } catch (const std::exception& error) {
        std::cerr << "vf_sim: " << error.what() << '\n';
        return 1;
    }
}
