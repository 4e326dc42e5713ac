#include "apps/guest/serve.hpp"

#include <chrono>
#include <cstdio>
#include <vitrine/application.hpp>
#include <vitrine/port.hpp>

#include <nlohmann/json.hpp>

namespace vitrine::guest {
namespace {

/// Signals are looked at in between.
constexpr std::chrono::milliseconds longest_sleep{100};

std::string report(const Port::Statistics& port, const ApplicationDoor::Statistics& door) {
    return nlohmann::json{{"received", {{"frames", port.frames}, {"bytes", port.bytes}}},
                          {"violations", port.violations},
                          {"kicks", port.kicks},
                          {"calls", port.calls},
                          {"applications", door.applications},
                          {"expelled", door.expelled},
                          {"shown", door.frames},
                          {"wake_ups", door.wake_ups},
                          {"signals", door.signals}}
        .dump();
}

const char* failure_of(Port::State state) {
    switch (state) {
        case Port::State::gone:
            return "the device is gone";
        case Port::State::refused:
            return "the device refuses to lend pages (docs/vrx.md, 3.4)";
        case Port::State::broken:
            return "the device broke a rule of the ring";
        case Port::State::running:
            break;
    }
    return nullptr;
}

}  // namespace

int serve(const Options& options, const std::atomic<bool>& stop, const std::function<void()>& ready) {
    Port port({.socket_path = options.socket_path,
               .pci_address = options.pci_address,
               .pages_path = options.pages_path,
               .entries = options.queue_size,
               .patience = std::chrono::seconds(options.wait_seconds)});
    ApplicationDoor door(port, {.path = options.door_path});
    ready();
    const char* failure = nullptr;
    while (!stop && failure == nullptr) {
        door.serve();
        bool moved = false;
        if (door.has_room()) {
            for (const Frame& frame : port.receive()) {
                moved = true;
                if (!door.show(frame)) port.release(frame);
            }
        }
        if (moved) continue;
        door.wait(longest_sleep);
        failure = failure_of(port.state());
    }
    std::printf("%s\n", report(port.statistics(), door.statistics()).c_str());
    if (failure != nullptr)
        std::fprintf(stderr, "vitrine-guest: %s: %s\n", (options.socket_path + options.pci_address).c_str(), failure);
    return failure == nullptr ? 0 : 1;
}

}  // namespace vitrine::guest
