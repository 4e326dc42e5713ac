#include "apps/vitrine/options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <istream>
#include <map>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <toml++/toml.h>

#include "driver/vf_place.hpp"

namespace vitrine::apps {
namespace {

/// Lets CLI11 read --config through toml++, which names line and column of a mistake.
class TomlFile : public CLI::Config {
public:
    explicit TomlFile(const CLI::App* known) : known_(known) {}

    std::string to_config(const CLI::App*, bool, bool, std::string) const override { return {}; }

    std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
        std::vector<CLI::ConfigItem> entries;
        try {
            for (const auto& [key, node] : toml::parse(input)) {
                const CLI::Option* option = known_->get_option_no_throw("--" + std::string(key.str()));
                if (option == nullptr) fail(key.source().begin, "no such option: " + std::string(key.str()));
                // What the environment says is of today, the file is of whenever it was written.
                if (!option->get_envname().empty() && std::getenv(option->get_envname().c_str()) != nullptr) continue;
                if (option->count() == 0) lines_[option->get_name()] = key.source().begin.line;
                CLI::ConfigItem item;
                item.parents = {known_->get_name()};
                item.name = key.str();
                if (const toml::array* list = node.as_array()) {
                    for (const auto& element : *list) item.inputs.push_back(text_of(element));
                } else {
                    item.inputs.push_back(text_of(node));
                }
                entries.push_back(std::move(item));
            }
        } catch (const toml::parse_error& error) {
            fail(error.source().begin, std::string(error.description()));
        }
        return entries;
    }

    /// Where the option stands that CLI11 complains of ("--mtu: ..."); empty when it was not taken from the file.
    std::string place_of(const std::string& complaint) const {
        const auto found = lines_.find(complaint.substr(0, complaint.find(':')));
        return found != lines_.end() ? "--config: line " + std::to_string(found->second) + ": " : std::string();
    }

private:
    [[noreturn]] static void fail(const toml::source_position& at, const std::string& what) {
        std::ostringstream where;
        where << "--config: line " << at.line << ", column " << at.column << ": " << what;
        throw CLI::FileError(where.str());
    }

    static std::string text_of(const toml::node& node) {
        if (const auto text = node.value<std::string>(); node.is_string()) return *text;
        std::ostringstream text;
        node.visit([&](const auto& value) {
            if constexpr (requires { text << value.get(); }) text << std::boolalpha << value.get();
        });
        return text.str();
    }

    const CLI::App* known_;
    mutable std::map<std::string, std::size_t> lines_;  // from_config is const, and CLI11 checks the values after it
};

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts;
    std::istringstream stream(list);
    for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
    return parts;
}

/// "01:00:5e:00:00:01", a group address; nothing when it is none.
std::optional<std::array<std::uint8_t, 6>> parse_group(const std::string& text) {
    std::array<std::uint8_t, 6> address{};
    if (text.size() != 17) return std::nullopt;
    for (std::size_t i = 0; i < address.size(); ++i) {
        const char* begin = text.data() + 3 * i;
        if (std::from_chars(begin, begin + 2, address[i], 16).ptr != begin + 2) return std::nullopt;
        if (i < 5 && begin[2] != ':') return std::nullopt;
    }
    if ((address[0] & 1) == 0) return std::nullopt;
    return address;
}

/// The VM's own hugetlbfs where there is one: its front-end's group may look for names in it, as in the run directory.
std::string pages_directory(const Options& options) {
    const std::string huge = "/dev/vitrine/" + options.name;
    return ::access(huge.c_str(), W_OK) == 0 ? huge : options.run_directory;
}

struct Verb {
    const char* word;
    const char* help;
};
constexpr auto verbs = std::to_array<Verb>({
    {"run", "Serves one VM until SIGTERM."},
    {"needs", "Prints the huge pages and the locked memory that `run` needs with the same options."},
    {"clean", "Removes what a killed `run` with the same options left: sockets, packet pages, who holds them."},
});

/// The first verb among the arguments; `run` if there is none.
std::string_view verb_among(int argc, char** argv) {
    const std::span<char*> words(argv, static_cast<std::size_t>(argc));
    const auto is_verb = [](std::string_view word) {
        return std::ranges::any_of(verbs, [word](const Verb& verb) { return word == verb.word; });
    };
    const auto found = std::ranges::find_if(words, is_verb);
    return found != words.end() ? std::string_view(*found) : verbs.front().word;
}

}  // namespace

std::string run_root() {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    return ::geteuid() == 0 || runtime == nullptr ? "/run/vitrine" : std::string(runtime) + "/vitrine";
}

std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
    Options options;
    std::string multicast = "auto", idle = "50", guest_dma = "off", packed = "off", memory = "auto", seccomp = "kill",
                run_directory_root = run_root(), tunnel;
    std::vector<unsigned> vlans;

    CLI::App app("vitrine gives one virtual machine one VF of an Intel 82599, X540 or X550, in user space.");
    app.set_version_flag("--version", std::string("vitrine " VITRINE_VERSION));
    // As QEMU's and libvirt's description of back-ends wants it: docs/interop/vhost-user.json.
    app.add_flag_callback(
        "--print-capabilities", [] { throw CLI::CallForVersion(R"({"type": "net"})", 0); },
        "Say as JSON what kind of vhost-user back-end this is");
    app.require_subcommand(0, 1);
    app.footer("Example: vitrine run --name vm1 --vf vfio-user:/run/vf.sock --socket-path /run/vitrine/vm1/vhost.sock");
    app.set_config("--config", "", "TOML file with the options of `run` by their long names; the command line wins");
    app.allow_config_extras(CLI::config_extras_mode::error);

    // All verbs take the same options, so that the same TOML file does for all: only the one that is meant gets them.
    const std::string_view meant = verb_among(argc, argv);
    options.only_needs = meant == "needs";
    options.only_clean = meant == "clean";
    CLI::App* run = nullptr;
    for (const Verb& verb : verbs) {
        CLI::App* const one = app.add_subcommand(verb.word, verb.help);
        if (meant == verb.word) run = one;
    }
    run->configurable();
    const auto file = std::make_shared<TomlFile>(run);
    app.config_formatter(file);
    run->fallthrough();
    run->add_option(options.only_clean ? "name,--name" : "--name", options.name, "Name of the VM")
        ->capture_default_str()
        ->check([](const std::string& name) {
            const bool plain =
                !name.empty() && name.size() <= 32 && name[0] != '.' && std::ranges::all_of(name, [](unsigned char c) {
                    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
                });
            return plain ? std::string() : "a name is 1 to 32 letters, digits, '-', '_' or '.'";
        });
    run->add_option("--run-dir", run_directory_root, "Where the run directories of all VMs are")->capture_default_str();
    run->add_option(
           "--vf", options.vf,
           "The VF: its PCI address (0000:03:10.1), PF/INDEX (enp3s0f0/1), or a simulated one (vfio-user:PATH)")
        ->required(meant == "run")
        ->envname("VITRINE_VF")
        ->check([](const std::string& vf) {
            return driver::parse_vf_place(vf) ? std::string()
                                              : "a VF is given as 0000:03:10.1, as enp3s0f0/1 or as vfio-user:PATH";
        });
    if (options.only_needs) {
        run->add_flag("--json", options.needs_as_json, "For a program to read");
        run->add_option("--guest-memory", options.guest_memory_mib, "MiB of the VM: they count with --guest-dma=on")
            ->check(CLI::Range(0u, 16u << 20));
    }
    auto* listen = run->add_option("--socket-path", options.front_end.socket_path,
                                   "Listen for the front-end here (default: vhost.sock in the run directory)");
    auto* inherit = run->add_option("--fd", options.front_end.descriptor,
                                    "Inherited socket, listening or connected to the front-end")
                        ->check(CLI::Range(3, 1 << 20));
    auto* connect = run->add_option("--connect", options.front_end.connect_path, "Connect to a listening front-end");
    listen->excludes(inherit)->excludes(connect);
    inherit->excludes(connect);
    run->add_option("--queues", options.pairs, "Queue pairs that the guest is offered")
        ->capture_default_str()
        ->check(CLI::Range(1u, 4u) & CLI::IsMember({1u, 2u, 4u}));
    const CLI::Option* const mtu =
        run->add_option("--mtu", options.mtu,
                        "MTU that the guest is offered (default: 1500 less what --tunnel puts in front)")
            ->check(CLI::Range(68, 9000));
    run->add_option("--tunnel", tunnel,
                    "End a tunnel for the guest, which sees what is inside: vxlan:vni=N,local=IP,remote=IP with "
                    "[port=4789] [remote-mac=MAC | gateway=IP] [vlan=N], geneve: likewise (port 6081), or vlan:id=N");
    run->add_option("--rx", options.rx_mode,
                    "Receive path: auto, copy into the guest's buffers, or pages: lent to a guest that asks for them, "
                    "copy to others")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "copy", "pages"}));
    run->add_option(
        "--pages-path", options.pages_path,
        "With --rx pages: the file that the VM maps read-only, on hugetlbfs or tmpfs (default: pages in "
        "/dev/vitrine/NAME if that is ours to write, as `setup.sh apply` makes it, else in the run directory)");
    run->add_option("--guest-dma", guest_dma,
                    "on: the VM has no balloon, free-page reporting, virtio-mem or post-copy, "
                    "and the NIC may read its memory (zero-copy transmit), with --rx pages also write it (direct)")
        ->capture_default_str()
        ->check(CLI::IsMember({"on", "off"}));
    run->add_option("--packed", packed,
                    "on: offer packed rings as well. They do not survive vitrine's process: after a kill the guest has "
                    "to reset its device")
        ->capture_default_str()
        ->check(CLI::IsMember({"on", "off"}));
    run->add_option("--vlan", vlans, "VLANs to receive, e.g. 10,20 (default: none)")
        ->delimiter(',')
        ->check(CLI::Range(0, 4095));
    run->add_option("--multicast", multicast, "auto, all, or a list of group addresses")->capture_default_str();
    run->add_flag("--promiscuous", options.promiscuous, "Ask the PF for all frames (it must trust the VF)");
    run->add_option("--idle", idle, "Microseconds to spin before sleeping, or busy: never sleep")
        ->capture_default_str();
    run->add_option("--pages", options.pages, "Packet pages (default: as many as the rings can use)")
        ->check(CLI::Range(256u, 65535u));
    run->add_option("--memory", memory, "Packet memory: auto, huge (or fail) or small")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "huge", "small"}));
    run->add_flag("--allow-root", options.allow_root, "Run even as user 0 (without its capabilities)");
    run->add_flag("--allow-same-uid", options.allow_same_uid,
                  "Serve a front-end of vitrine's own user, which could write what it should only read");
    run->add_option("--seccomp", seccomp,
                    "At a system call that vitrine has no use for: kill (the process), errno, log, off")
        ->check(CLI::IsMember(std::vector<std::string>(seccomp_mode_names.begin(), seccomp_mode_names.end())))
        ->capture_default_str();
    run->add_option("--log-level", options.log_level, "What is worth a line")
        ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
        ->capture_default_str();

    try {
        app.parse(argc, argv);
        if (!run->parsed()) throw CLI::RequiredError("a verb: run, needs or clean");
        options.run_directory = run_directory_root + "/" + options.name;
        for (const unsigned vlan : vlans) options.vlans.push_back(static_cast<std::uint16_t>(vlan));
        options.guest_dma = guest_dma == "on";
        options.packed = packed == "on";
        if (!tunnel.empty()) {
            try {
                options.tunnel = parse_tunnel(tunnel);
            } catch (const std::invalid_argument& error) {
                throw CLI::ValidationError("--tunnel", error.what());
            }
            if (mtu->count() == 0) options.mtu = static_cast<std::uint16_t>(1500 - options.tunnel->overhead_bytes());
            if (options.tunnel->vlan && !options.vlans.empty())
                throw CLI::ValidationError("--vlan", "the tunnel's VLAN is the only one: leave --vlan out");
        }
        options.seccomp =
            static_cast<SeccompMode>(std::ranges::find(seccomp_mode_names, seccomp) - seccomp_mode_names.begin());
        options.backing = memory == "auto"   ? mem::Backing::huge_or_small
                          : memory == "huge" ? mem::Backing::huge_only
                                             : mem::Backing::small_only;
        if (idle == "busy") {
            options.idle_busy = true;
        } else {
            unsigned microseconds = 0;
            const auto end = idle.data() + idle.size();
            if (std::from_chars(idle.data(), end, microseconds).ptr != end || idle.empty() || microseconds > 1'000'000)
                throw CLI::ValidationError("--idle", "microseconds up to 1000000, or busy");
            options.idle_spin = std::chrono::microseconds(microseconds);
        }
        options.multicast = multicast;
        if (multicast.empty()) throw CLI::ValidationError("--multicast", "auto, all, or a list of group addresses");
        if (multicast != "auto" && multicast != "all") {
            options.multicast = "list";
            for (const std::string& text : split(multicast)) {
                const auto group = parse_group(text);
                if (!group) throw CLI::ValidationError("--multicast", text + " is not a group address");
                options.multicast_groups.push_back(*group);
            }
        }
        const bool names_pages = options.rx_mode == "pages" || options.only_clean;
        if (names_pages && options.pages_path.empty()) options.pages_path = pages_directory(options) + "/pages";
        if (!names_pages && !options.pages_path.empty())
            throw CLI::ValidationError("--pages-path", "only with --rx pages");
        const bool named = !options.front_end.connect_path.empty() || options.front_end.descriptor >= 0;
        if (!named && options.front_end.socket_path.empty())
            options.front_end.socket_path = options.run_directory + "/vhost.sock";
    } catch (const CLI::Success& success) {
        exit_code = app.exit(success);
        return std::nullopt;
    } catch (const CLI::Error& error) {
        std::fprintf(stderr, "vitrine: %s%s (vitrine run --help)\n", file->place_of(error.what()).c_str(),
                     error.what());
        exit_code = 2;
        return std::nullopt;
    }
    return options;
}

}  // namespace vitrine::apps
