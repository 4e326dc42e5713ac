#include <initializer_list>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/options.hpp"
#include "apps/guest/run.hpp"
#include "virtio/features.hpp"
#include "virtio/vrx.hpp"

using namespace vitrine::guest;
namespace feature = vitrine::virtio::feature;

namespace {

std::optional<Options> parse(std::initializer_list<const char*> arguments, int& exit_code) {
    std::vector<const char*> argv{"vitrine-guest"};
    argv.insert(argv.end(), arguments);
    return parse_options(static_cast<int>(argv.size()), argv.data(), exit_code);
}

Options good(std::initializer_list<const char*> arguments) {
    int exit_code = 0;
    const auto options = parse(arguments, exit_code);
    REQUIRE(options.has_value());
    return *options;
}

}  // namespace

TEST_CASE("vitrine-guest: options reach their fields") {
    const Options options = good({"tx",
                                  "--socket",
                                  "a.sock",
                                  "--count",
                                  "7",
                                  "--size",
                                  "1518",
                                  "--flows",
                                  "3",
                                  "--rate",
                                  "1000",
                                  "--destination",
                                  "02:00:00:00:0a:ff",
                                  "--merge",
                                  "off",
                                  "--indirect",
                                  "on",
                                  "--event-index",
                                  "off",
                                  "--memory",
                                  "memfd",
                                  "--queue-size",
                                  "512",
                                  "--spin",
                                  "0",
                                  "--json",
                                  "--listen"});
    CHECK(options.mode == Mode::tx);
    CHECK(options.socket_path == "a.sock");
    CHECK(options.count == 7);
    CHECK(options.wire_bytes == 1518);
    CHECK(options.flows == 3);
    CHECK(options.frames_per_second == 1000);
    CHECK(options.destination == vitrine::mem::EthernetAddress{2, 0, 0, 0, 0x0a, 0xff});
    CHECK_FALSE(options.merge);
    CHECK(options.indirect);
    CHECK_FALSE(options.event_index);
    CHECK(options.backing == vitrine::mem::Backing::small_only);
    CHECK(options.queue_size == 512);
    CHECK(options.spin.count() == 0);
    CHECK(options.json);
    CHECK(options.listen);
}

TEST_CASE("vitrine-guest: what the driver does unless told otherwise") {
    const Options options = good({"check", "--socket", "a.sock"});
    CHECK(options.mode == Mode::check);
    CHECK(options.merge);
    CHECK(options.event_index);
    CHECK_FALSE(options.indirect);
    CHECK_FALSE(options.count.has_value());
    CHECK(options.idle_seconds == 5);
}

TEST_CASE("vitrine-guest: a wrong command line ends with 2") {
    const std::initializer_list<std::initializer_list<const char*>> wrong{
        {},
        {"rx"},
        {"--socket", "a.sock"},
        {"fly", "--socket", "a.sock"},
        {"tx", "--socket", "a.sock"},
        {"tx", "--socket", "a.sock", "--count", "0"},
        {"tx", "--socket", "a.sock", "--count", "1", "--size", "63"},
        {"tx", "--socket", "a.sock", "--count", "1", "--size", "9027"},
        {"tx", "--socket", "a.sock", "--count", "1", "--flows", "0"},
        {"tx", "--socket", "a.sock", "--count", "1", "--destination", "02:00"},
        {"tx", "--socket", "a.sock", "--count", "1", "--destination", "02:00:00:00:00:0g"},
        {"tx", "--socket", "a.sock", "--count", "1", "--pcap-out", "x"},
        {"rx", "--socket", "a.sock", "--pcap-in", "x"},
        {"check", "--socket", "a.sock", "--rate", "5"},
        {"rx", "--socket", "a.sock", "--queue-size", "100"},
        {"rx", "--socket", "a.sock", "--queue-size", "65536"},
        {"rx", "--socket", "a.sock", "--merge", "maybe"},
        {"rx", "--socket", "a.sock", "--memory", "disk"},
        {"check", "--socket", "a.sock", "--hold", "3"},
        {"rx", "--socket", "a.sock", "--pages", "x", "--hold", "3"},
        {"check", "--socket", "a.sock", "--queues", "2"},
        {"check", "--socket", "a.sock", "--pages", "x", "--hoard", "1"},
        {"check", "--socket", "a.sock", "--hoard", "0"},
        {"rx", "--socket", "a.sock", "--no-such-option"},
        {"rx", "--socket", "a.sock", "--door", "d"},
        {"serve", "--socket", "a.sock", "--pages", "p"},
        {"serve", "--socket", "a.sock", "--door", "d"},
        {"perf"},
        {"perf", "--socket", "a.sock"},
        {"perf", "--socket", "a.sock", "--pages", "p", "--listen"},
        {"perf", "--door", "d", "--socket", "a.sock"},
        {"perf", "--door", "d", "--bytes", "0"},
    };
    for (const auto& arguments : wrong) {
        int exit_code = 0;
        CHECK_FALSE(parse(arguments, exit_code).has_value());
        CHECK(exit_code == 2);
    }
}

TEST_CASE("vitrine-guest: perf needs no device where somebody serves") {
    const Options options = good({"perf", "--door", "d", "--bytes", "3m", "--check", "off"});
    CHECK(options.mode == Mode::perf);
    CHECK(options.door_path == "d");
    CHECK(options.row_bytes == 3u << 20);
    CHECK(!options.check);
}

TEST_CASE("vitrine-guest: packed rings have any number of entries, and are for what can be on them") {
    const auto refused = [](std::initializer_list<const char*> arguments) {
        int exit_code = 0;
        return !parse(arguments, exit_code) && exit_code == 2;
    };
    const Options options = good({"check", "--socket", "a.sock", "--packed", "on", "--queue-size", "100"});
    CHECK(options.packed);
    CHECK(options.queue_size == 100);
    CHECK((wanted_features(options) & feature::ring_packed) != 0);
    CHECK((wanted_features(good({"check", "--socket", "a.sock"})) & feature::ring_packed) == 0);
    CHECK((wanted_features(options) & vitrine::virtio::vrx::feature) == 0);
    const Options pages = good({"check", "--socket", "a.sock", "--packed", "on", "--pages", "p"});
    CHECK((wanted_features(pages) & vitrine::virtio::vrx::feature) != 0);
    CHECK((wanted_features(good({"check", "--socket", "s", "--pages", "p"})) & vitrine::virtio::vrx::feature) == 0);
    CHECK(good({"check", "--pci", "0000:00:03.0", "--packed", "on"}).packed);
    CHECK(refused({"check", "--pci", "0000:00:03.0", "--packed", "on", "--pages", "pci"}));
    CHECK(refused({"check", "--socket", "a.sock", "--packed", "off", "--queue-size", "100"}));
    CHECK(refused({"check", "--socket", "a.sock", "--packed", "on", "--reconnect", "5"}));
    CHECK(refused({"check", "--socket", "a.sock", "--packed", "on", "--offset", "pages"}));
    CHECK(refused({"serve", "--socket", "a.sock", "--packed", "on", "--pages", "p", "--door", "d"}));
    CHECK(refused({"perf", "--socket", "a.sock", "--packed", "on", "--pages", "p"}));
    CHECK(refused({"perf", "--door", "d", "--packed", "on"}));
}

TEST_CASE("vitrine-guest: help ends with 0") {
    int exit_code = 1;
    CHECK_FALSE(parse({"--help"}, exit_code).has_value());
    CHECK(exit_code == 0);
}

TEST_CASE("vitrine-guest: a device is either behind a socket or on the bus of the machine, which has huge pages") {
    const auto refused = [](std::initializer_list<const char*> arguments) {
        int exit_code = 0;
        return !parse(arguments, exit_code) && exit_code == 2;
    };
    CHECK(good({"check", "--pci", "0000:00:03.0", "--pages", "pci"}).pci_address == "0000:00:03.0");
    CHECK(refused({"check"}));
    CHECK(refused({"check", "--socket", "a.sock", "--pci", "0000:00:03.0"}));
    CHECK(refused({"check", "--pci", "0000:00:03.0", "--listen"}));
    CHECK(refused({"check", "--pci", "0000:00:03.0", "--reconnect", "5"}));
    CHECK(refused({"check", "--pci", "0000:00:03.0", "--pages", "pci", "--queues", "2"}));
    CHECK(refused({"check", "--pci", "0000:00:03.0", "--memory", "memfd"}));
}
