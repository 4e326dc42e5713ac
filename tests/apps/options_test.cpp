#include "apps/vitrine/options.hpp"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string_view>

#include <doctest/doctest.h>

#include "tests/support/directory.hpp"

using vitrine::apps::Options;

namespace {

struct Parsed {
    std::optional<Options> options;
    int exit_code = 0;
};

Parsed parse(std::vector<std::string> words) {
    words.insert(words.begin(), "vitrine");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    Parsed result;
    result.options =
        vitrine::apps::parse_options(static_cast<int>(arguments.size()), arguments.data(), result.exit_code);
    return result;
}

struct TomlText {
    vitrine::test::Directory directory;
    std::string path = directory / "options.toml";
    explicit TomlText(const std::string& text) { std::ofstream(path) << text; }
};

}  // namespace

TEST_CASE("the socket of a named VM is in its run directory unless said otherwise") {
    const Parsed plain = parse({"run", "--vf", "vfio-user:/x", "--name", "vm1", "--run-dir", "/r"});
    REQUIRE(plain.options);
    CHECK(plain.options->run_directory == "/r/vm1");
    CHECK(plain.options->front_end.socket_path == "/r/vm1/vhost.sock");
    const Parsed connecting = parse({"run", "--vf", "vfio-user:/x", "--connect", "/s"});
    REQUIRE(connecting.options);
    CHECK(connecting.options->front_end.socket_path.empty());
    CHECK(connecting.options->front_end.connect_path == "/s");
}

TEST_CASE("a VF is named in one of three ways") {
    for (const char* vf : {"0000:03:10.1", "enp3s0f0/1", "vfio-user:/x"}) {
        const Parsed parsed = parse({"run", "--vf", vf});
        REQUIRE(parsed.options);
        CHECK(parsed.options->vf == vf);
        CHECK(parsed.options->is_vfio_user() == (std::string_view(vf) == "vfio-user:/x"));
    }
}

TEST_CASE("needs takes the options and the TOML file of run, but does not ask for a VF") {
    const Parsed plain = parse({"needs", "--json"});
    REQUIRE(plain.options);
    CHECK(plain.options->only_needs);
    CHECK(plain.options->needs_as_json);
    const TomlText file("vf = 'enp3s0f0/1'\nmtu = 9000\nname = 'run'\n");
    const Parsed with_file = parse({"needs", "--config", file.path, "--queues", "2", "--guest-memory", "512"});
    REQUIRE(with_file.options);
    CHECK(with_file.options->mtu == 9000);
    CHECK(with_file.options->pairs == 2);
    CHECK(with_file.options->guest_memory_mib == 512);
    CHECK(parse({"needs", "--guest-memory", "0"}).options.has_value());  // as setup.sh asks
    CHECK_FALSE(parse({"run", "--config", file.path}).options->only_needs);
    CHECK(parse({"run", "--vf", "vfio-user:/x", "--json"}).exit_code == 2);
}

TEST_CASE("clean takes a name, and the options of run that say where things lie") {
    const Parsed named = parse({"clean", "vm7", "--run-dir", "/r"});
    REQUIRE(named.options);
    CHECK(named.options->only_clean);
    CHECK(named.options->run_directory == "/r/vm7");
    CHECK(named.options->front_end.socket_path == "/r/vm7/vhost.sock");
    CHECK(named.options->pages_path == "/r/vm7/pages");
    const TomlText file("vf = 'enp3s0f0/1'\nrx = 'pages'\npages-path = '/dev/hugepages/x'\nname = 'vm8'\n");
    const Parsed from_file = parse({"clean", "--config", file.path});
    REQUIRE(from_file.options);
    CHECK(from_file.options->name == "vm8");
    CHECK(from_file.options->pages_path == "/dev/hugepages/x");
    CHECK(parse({"run", "vm7", "--vf", "vfio-user:/x"}).exit_code == 2);
}

TEST_CASE("the help of run names the default of each option that has one") {
    std::ostringstream said;
    std::streambuf* const before = std::cout.rdbuf(said.rdbuf());
    const Parsed help = parse({"run", "--help"});
    std::cout.rdbuf(before);
    CHECK(help.exit_code == 0);
    const std::string text = said.str();
    for (const auto& [option, value] :
         std::vector<std::pair<std::string, std::string>>{{"name", "=default"},
                                                          {"run-dir", "=/"},
                                                          {"socket-path", "default: vhost.sock"},
                                                          {"queues", "=1"},
                                                          {"mtu", "default: 1"},
                                                          {"rx", "=auto"},
                                                          {"pages-path", "default: pages"},
                                                          {"guest-dma", "=off"},
                                                          {"vlan", "default: none"},
                                                          {"multicast", "=auto"},
                                                          {"idle", "=50"},
                                                          {"pages", "default: as many"},
                                                          {"memory", "=auto"},
                                                          {"seccomp", "=kill"},
                                                          {"log-level", "=info"}}) {
        CAPTURE(option);
        const std::size_t begin = text.find("  --" + option + " ");
        REQUIRE(begin != std::string::npos);
        const std::string entry = text.substr(begin, text.find("\n  --", begin + 1) - begin);
        CHECK(entry.find(value) != std::string::npos);
    }
}

TEST_CASE("a wrong option is a usage error: exit code 2") {
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {},
             {"run"},
             {"run", "--vf", "eth0"},
             {"run", "--vf", "vfio-user:"},
             {"run", "--vf", "03:10.1"},
             {"run", "--vf", "../0"},
             {"run", "--vf", "vfio-user:/x", "--nonsense"},
             {"run", "--vf", "vfio-user:/x", "--mtu", "9001"},
             {"run", "--vf", "vfio-user:/x", "--vlan", "10,4096"},
             {"run", "--vf", "vfio-user:/x", "--queues", "3"},
             {"run", "--vf", "vfio-user:/x", "--idle", "soon"},
             {"run", "--vf", "vfio-user:/x", "--multicast", "01:00:5e:00:00:01,00:11:22:33:44:55"},
             {"run", "--vf", "vfio-user:/x", "--name", "../vm1"},
             {"run", "--vf", "vfio-user:/x", "--fd", "7", "--connect", "/s"},
             {"run", "--vf", "vfio-user:/x", "--seccomp", "trace"},
             {"run", "--vf", "vfio-user:/x", "--rx", "direct"}}) {
        const Parsed parsed = parse(words);
        CHECK_FALSE(parsed.options.has_value());
        CHECK(parsed.exit_code == 2);
    }
}

TEST_CASE("the walls are up unless an option takes one down") {
    const Parsed plain = parse({"run", "--vf", "vfio-user:/x"});
    REQUIRE(plain.options);
    CHECK(plain.options->seccomp == vitrine::apps::SeccompMode::kill);
    CHECK_FALSE(plain.options->allow_root);
    CHECK_FALSE(plain.options->allow_same_uid);
    const Parsed lenient =
        parse({"run", "--vf", "vfio-user:/x", "--allow-root", "--allow-same-uid", "--seccomp", "errno"});
    REQUIRE(lenient.options);
    CHECK(lenient.options->seccomp == vitrine::apps::SeccompMode::refuse);
    CHECK(lenient.options->allow_root);
    CHECK(lenient.options->allow_same_uid);
}

TEST_CASE("a TOML file sets options by their long names, and the command line wins") {
    const TomlText file("vf = 'vfio-user:/from-file'\nmtu = 9000\nvlan = [10, 20]\npromiscuous = true\nname = 'a'\n");
    const Parsed parsed = parse({"run", "--config", file.path, "--name", "b"});
    REQUIRE(parsed.options);
    CHECK(parsed.options->vf == "vfio-user:/from-file");
    CHECK(parsed.options->mtu == 9000);
    CHECK(parsed.options->vlans == std::vector<std::uint16_t>{10, 20});
    CHECK(parsed.options->promiscuous);
    CHECK(parsed.options->name == "b");
}

TEST_CASE("VITRINE_VF beats the VF of the TOML file, and the command line beats both") {
    const TomlText file("vf = 'vfio-user:/from-file'\n");
    ::setenv("VITRINE_VF", "vfio-user:/from-environment", 1);
    const Parsed both = parse({"run", "--config", file.path});
    const Parsed all = parse({"run", "--config", file.path, "--vf", "vfio-user:/from-line"});
    const Parsed no_file = parse({"run"});
    ::unsetenv("VITRINE_VF");
    REQUIRE(both.options);
    CHECK(both.options->vf == "vfio-user:/from-environment");
    REQUIRE(all.options);
    CHECK(all.options->vf == "vfio-user:/from-line");
    REQUIRE(no_file.options);
    CHECK(no_file.options->vf == "vfio-user:/from-environment");
}

TEST_CASE("a mistake in the TOML file is a usage error") {
    for (const char* text : {"vf = 'vfio-user:/x'\nno_such_option = 1\n", "vf = 'vfio-user:/x'\nmtu = 'large'\n",
                             "vf = \n", "[vf]\na = 1\n"}) {
        const TomlText file(text);
        const Parsed parsed = parse({"run", "--config", file.path});
        CHECK_FALSE(parsed.options.has_value());
        CHECK(parsed.exit_code == 2);
    }
    CHECK(parse({"run", "--config", "/nowhere/at/all.toml", "--vf", "vfio-user:/x"}).exit_code == 2);
}

TEST_CASE("group addresses of --multicast are read, and auto and all are no lists") {
    const Parsed list = parse({"run", "--vf", "vfio-user:/x", "--multicast", "01:00:5e:00:00:fb,33:33:00:00:00:fb"});
    REQUIRE(list.options);
    REQUIRE(list.options->multicast_groups.size() == 2);
    CHECK(list.options->multicast_groups[0] == std::array<std::uint8_t, 6>{1, 0, 0x5e, 0, 0, 0xfb});
    CHECK(parse({"run", "--vf", "vfio-user:/x", "--multicast", "all"}).options->multicast_groups.empty());
}

TEST_CASE("with --tunnel the guest's MTU makes room for the headers on a wire of 1500, unless it is given") {
    const std::string tunnel = "vxlan:vni=1,local=10.0.0.1,remote=10.0.0.2";
    const Parsed plain = parse({"run", "--vf", "vfio-user:/x", "--tunnel", tunnel});
    REQUIRE(plain.options);
    CHECK(plain.options->mtu == 1450);
    CHECK(plain.options->link_mtu() == 1500);
    const Parsed jumbo = parse({"run", "--vf", "vfio-user:/x", "--tunnel", tunnel, "--mtu", "9000"});
    REQUIRE(jumbo.options);
    CHECK(jumbo.options->mtu == 9000);
    CHECK(jumbo.options->link_mtu() == 9050);
    const Parsed vlan = parse({"run", "--vf", "vfio-user:/x", "--tunnel", "vlan:id=7"});
    REQUIRE(vlan.options);
    CHECK(vlan.options->link_mtu() == 1500);
    const TomlText file("vf = 'vfio-user:/x'\ntunnel = '" + tunnel + "'\nmtu = 1400\n");
    const Parsed toml = parse({"run", "--config", file.path});
    REQUIRE(toml.options);
    CHECK(toml.options->tunnel->ends->vni == 1);
    CHECK(toml.options->link_mtu() == 1450);
}

TEST_CASE("a --tunnel that cannot be meant is a usage error, and its VLAN leaves no room for others") {
    CHECK(parse({"run", "--vf", "vfio-user:/x", "--tunnel", "vxlan:vni=1"}).exit_code == 2);
    CHECK(parse({"run", "--vf", "vfio-user:/x", "--tunnel", "vlan:id=7", "--vlan", "8"}).exit_code == 2);
}
