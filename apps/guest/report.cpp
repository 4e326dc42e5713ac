#include "apps/guest/report.hpp"

#include <cstdio>
#include <string_view>

#include <nlohmann/json.hpp>

#include "virtio/features.hpp"

namespace vitrine::guest {
namespace {

std::string_view name_of(Mode mode) {
    switch (mode) {
        case Mode::rx:
            return "rx";
        case Mode::tx:
            return "tx";
        case Mode::echo:
            return "echo";
        case Mode::check:
            return "check";
        case Mode::serve:
            return "serve";
        case Mode::perf:
            return "perf";
    }
    return {};
}

std::string_view name_of(Ending ending) {
    switch (ending) {
        case Ending::count:
            return "count";
        case Ending::seconds:
            return "seconds";
        case Ending::idle:
            return "idle";
        case Ending::nothing_came:
            return "nothing_came";
        case Ending::signal:
            return "signal";
        case Ending::backend_gone:
            return "backend_gone";
        case Ending::ring_broken:
            return "ring_broken";
    }
    return {};
}

double per_second(std::uint64_t count, std::chrono::nanoseconds time) {
    return time.count() > 0 ? static_cast<double>(count) * 1e9 / static_cast<double>(time.count()) : 0.0;
}

nlohmann::ordered_json json_of(const Result::Ring& ring) {
    nlohmann::ordered_json violations;
    for (std::size_t i = 0; i < violation_names.size(); ++i)
        violations[std::string(violation_names[i])] = ring.violations.of(static_cast<Violation>(i));
    return {{"violations", violations},
            {"kicks", ring.kicks},
            {"kicks_suppressed", ring.kicks_suppressed},
            {"calls", ring.calls}};
}

void add_line(std::string& table, std::string_view name, std::uint64_t value) {
    char line[80];
    std::snprintf(line, sizeof(line), "  %-22.*s %14llu\n", static_cast<int>(name.size()), name.data(),
                  static_cast<unsigned long long>(value));
    table += line;
}

void add_violations(std::string& table, std::string_view ring, const Violations& violations) {
    for (std::size_t i = 0; i < violation_names.size(); ++i) {
        const std::uint64_t count = violations.of(static_cast<Violation>(i));
        if (count != 0) add_line(table, std::string(ring) + "." + std::string(violation_names[i]), count);
    }
}

}  // namespace

bool Result::good() const {
    return bad() == 0 && receive_ring.violations.total() == 0 && transmit_ring.violations.total() == 0 &&
           failure_of(*this).empty();
}

std::string failure_of(const Result& result) {
    switch (result.ending) {
        case Ending::nothing_came:
            return "no frame moved in time: is the wire sending, and the link up? (--wait-seconds waits longer)";
        case Ending::backend_gone:
            return "the device is gone, or waits for a reset: see the log of the back-end";
        case Ending::ring_broken:
            return "the back-end broke a ring: see the violations";
        default:
            break;
    }
    if (result.sent.unfinished != 0)
        return "the back-end left " + std::to_string(result.sent.unfinished) +
               " sent frames unused: is its transmit ring polled? (--idle-seconds waits longer)";
    return {};
}

std::string to_json(const Result& result) {
    const std::uint64_t frames = result.mode == Mode::tx ? result.sent.frames : result.received.frames;
    char features[19];
    std::snprintf(features, sizeof(features), "0x%llx", static_cast<unsigned long long>(result.features));
    const nlohmann::ordered_json json{
        {"mode", name_of(result.mode)},
        {"ending", name_of(result.ending)},
        {"good", result.good()},
        {"bad", result.bad()},
        {"violations", result.receive_ring.violations.total() + result.transmit_ring.violations.total()},
        {"seconds", static_cast<double>(result.active.count()) / 1e9},
        {"frames_per_second", per_second(frames, result.active)},
        {"features", features},
        {"reconnects", result.reconnects},
        {"received",
         {{"frames", result.received.frames},
          {"bytes", result.received.bytes},
          {"empty", result.received.empty},
          {"bad_crc", result.received.bad_crc},
          {"unstamped", result.received.unstamped},
          {"lost", result.received.lost},
          {"out_of_order", result.received.out_of_order},
          {"changed", result.received.changed}}},
        {"sent",
         {{"frames", result.sent.frames},
          {"bytes", result.sent.bytes},
          {"unfinished", result.sent.unfinished},
          {"skipped", result.sent.skipped}}},
        {"receive_ring", json_of(result.receive_ring)},
        {"transmit_ring", json_of(result.transmit_ring)},
    };
    return json.dump(2) + "\n";
}

std::string to_table(const Result& result) {
    std::string table = "vitrine-guest " + std::string(name_of(result.mode)) + ", ended by " +
                        std::string(name_of(result.ending)) + "\n";
    if (result.mode != Mode::tx || result.received.frames != 0) {
        add_line(table, "received frames", result.received.frames);
        add_line(table, "received bytes", result.received.bytes);
        if (result.received.empty != 0) add_line(table, "empty buffers", result.received.empty);
    }
    if (result.mode == Mode::check) {
        add_line(table, "lost", result.received.lost);
        add_line(table, "out of order", result.received.out_of_order);
        add_line(table, "bad CRC", result.received.bad_crc);
        add_line(table, "unstamped", result.received.unstamped);
        if (result.received.changed != 0) add_line(table, "changed while held", result.received.changed);
    }
    if (result.mode == Mode::tx || result.mode == Mode::echo) {
        add_line(table, "sent frames", result.sent.frames);
        add_line(table, "queued bytes", result.sent.bytes);
        if (result.sent.unfinished != 0) add_line(table, "unfinished", result.sent.unfinished);
        if (result.sent.skipped != 0) add_line(table, "skipped", result.sent.skipped);
    }
    const std::uint64_t frames = result.mode == Mode::tx ? result.sent.frames : result.received.frames;
    add_line(table, "frames per second", static_cast<std::uint64_t>(per_second(frames, result.active)));
    add_violations(table, "rx", result.receive_ring.violations);
    add_violations(table, "tx", result.transmit_ring.violations);
    add_line(table, "bad", result.bad());
    return table;
}

}  // namespace vitrine::guest
