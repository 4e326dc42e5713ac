#include "tools/vf_sim/commands.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "tools/vf_sim/vf.hpp"
#include "tools/vf_sim/words.hpp"

namespace vitrine::vf_sim {
namespace {

constexpr unsigned usual_reset_ms = 100, longest_reset_ms = 60'000;

using Action = std::function<void(Vf& vf)>;

struct Command {
    std::string_view name, arguments, what;
    bool port;  ///< for every function at once
    /// Takes the arguments and says what to do.
    Action (*parse)(Words& words);
};

template <auto setter>
Action switched(Words& words) {
    return [on = words.on_off()](Vf& vf) { (vf.*setter)(on); };
}

const std::array commands{
    Command{"link", "up|down", "of the port", true,
            [](Words& words) -> Action { return [up = words.choice("up", "down")](Vf& vf) { vf.set_link(up); }; }},
    Command{"pf-reset", "[MILLISECONDS]", "the PF's driver starts anew, and is away for so long (100)", true,
            [](Words& words) -> Action {
                const unsigned ms = words.empty() ? usual_reset_ms : words.number(0, longest_reset_ms);
                return [ms](Vf& vf) { vf.reset_pf(std::chrono::milliseconds(ms)); };
            }},
    Command{"flr", "", "the host resets the function behind its driver's back", false,
            [](Words&) -> Action { return [](Vf& vf) { vf.reset_function(); }; }},
    Command{"mtu", "BYTES", "of the PF, which resets itself", true,
            [](Words& words) -> Action {
                return [bytes = words.number(68, 9710)](Vf& vf) {
                    vf.set_mtu(bytes, std::chrono::milliseconds(usual_reset_ms));
                };
            }},
    Command{"promiscuous", "on|off", "the PF itself: without it no function may be", true,
            switched<&Vf::set_promiscuous>},
    Command{"mac", "ADDRESS|none", "the function's address; none: it makes one up", false,
            [](Words& words) -> Action {
                std::optional<EthernetAddress> address;
                if (!words.accept("none")) {
                    const std::string word = words.take();
                    address = parse_address(word);
                    if (!address) throw std::invalid_argument("'" + word + "' is no unicast address");
                }
                return [address](Vf& vf) { vf.set_mac(address); };
            }},
    Command{"vlan", "ID|none", "port VLAN, put into and taken out of every frame", false,
            [](Words& words) -> Action {
                const unsigned vlan = words.accept("none") ? 0 : words.number(1, 4094);
                return [vlan](Vf& vf) { vf.set_port_vlan(static_cast<std::uint16_t>(vlan)); };
            }},
    Command{"trust", "on|off", "the function may change its address and ask for more", false,
            switched<&Vf::set_trusted>},
    Command{"spoof-check", "on|off", "drop what it sends from other addresses or VLANs", false,
            switched<&Vf::set_spoof_check>},
    Command{"rate", "MBPS|0", "limit of each transmit queue; 0: none", false,
            [](Words& words) -> Action { return [mbps = words.number(0, 100'000)](Vf& vf) { vf.set_rate(mbps); }; }},
    Command{"state", "auto|enable|disable", "its link, as the administrator wants it", false,
            [](Words& words) -> Action {
                const LinkState state = words.accept("auto")                ? LinkState::automatic
                                        : words.choice("enable", "disable") ? LinkState::enabled
                                                                            : LinkState::disabled;
                return [state](Vf& vf) { vf.set_link_state(state); };
            }},
    Command{"query-rss", "on|off", "it may read the hash key and table", false, switched<&Vf::set_rss_query>},
    Command{"fault", "NAME [ARGUMENTS]", "something goes wrong, until `fault clear`", false,
            [](Words& words) -> Action {
                return [change = Faults::parse(words)](Vf& vf) {
                    Faults faults = vf.faults();
                    change(faults);
                    vf.set_faults(faults);
                };
            }},
};

const Command& find(const std::string& name) {
    const auto* found = std::ranges::find(commands, name, &Command::name);
    if (found != commands.end()) return *found;
    std::string known = "status";
    for (const Command& command : commands) known += ", " + std::string(command.name);
    throw std::invalid_argument("unknown command '" + name + "'; there are " + known);
}

}  // namespace

void execute(const std::string& line, std::span<Vf* const> functions) {
    Words words(line);
    const bool chosen = words.accept("vf");
    const unsigned number = chosen ? words.number(0, static_cast<unsigned>(functions.size()) - 1) : 0;
    const std::string name = words.take();
    if (name == "status") return;
    const Command& command = find(name);
    try {
        if (command.port && chosen) throw std::invalid_argument("it is for all functions: without vf N");
        const Action action = command.parse(words);
        if (!words.empty()) throw std::invalid_argument("'" + words.take() + "' is too much");
        for (Vf* vf : command.port ? functions : functions.subspan(number, 1)) action(*vf);
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(name + " " + std::string(command.arguments) + ": " + error.what());
    }
}

std::string command_help() {
    std::ostringstream help;
    for (const Command& command : commands)
        help << "  " << (command.port ? "" : "[vf N] ") << command.name << ' ' << command.arguments << ": "
             << command.what << '\n';
    return help.str();
}

}  // namespace vitrine::vf_sim
