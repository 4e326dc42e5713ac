#include "tools/vf_sim/simulator.hpp"

#include <algorithm>
#include <poll.h>
#include <stdexcept>
#include <time.h>

#include <nlohmann/json.hpp>

#include "tools/vf_sim/commands.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t burst = 32;
constexpr std::chrono::milliseconds longest_sleep{50};

Time now() {
    return std::chrono::steady_clock::now();
}

/// The lowest three bytes count on, as a PF's administrator would do it.
EthernetAddress counted_on(EthernetAddress address, std::size_t count) {
    for (std::size_t i = address.size(); count > 0 && i > 3; count >>= 8) {
        count += address[--i];
        address[i] = static_cast<std::uint8_t>(count);
    }
    return address;
}

}  // namespace

Simulator::Simulator(const Options& options) : options_(options), wire_(make_wire(options.wire)) {
    const std::size_t count = options.socket_paths.size();
    if (count == 0 || count > Switch::most_functions)
        throw std::invalid_argument("--socket: 1 to " + std::to_string(Switch::most_functions) + " paths");
    if (!options.addresses.empty() && options.addresses.size() != count)
        throw std::invalid_argument("--mac: as many addresses as sockets, or one");
    if (options.policy.strict && options.offer_doorbells)
        throw std::invalid_argument("--strict: needs --doorbells trap, or it would not see when a tail is written");
    const auto port = std::make_shared<Port>();
    for (std::size_t i = 0; i < count; ++i) {
        Policy policy = options.policy;
        if (!options.addresses.empty())
            policy.mac = options.addresses[i];
        else if (policy.mac)
            policy.mac = counted_on(*policy.mac, i);
        functions_.push_back(
            std::make_unique<Function>(options.socket_paths[i], policy, options.offer_doorbells, port));
        switch_.add(functions_.back()->vf().pf());
    }
    outcomes_.resize(count);
    if (!options.script_path.empty()) script_ = Script(options.script_path);
    if (!options.control_path.empty())
        control_.emplace(options.control_path, [this](const std::string& line) { return command(line); });
}

void Simulator::run(const std::atomic<bool>& stop) {
    // Sockets cost a system call: under load they are looked at this often, unless doorbells come through them.
    const std::chrono::nanoseconds between_looks = options_.offer_doorbells ? 50us : 0us;
    Time last_look{};
    while (!stop.load(std::memory_order_relaxed)) {
        const Time start = now();
        bool worked = move_frames(start);
        script_.run(start, [this](const std::string& line) { return command(line); });
        for (const auto& function : functions_) function->vf().advance(start);
        const bool stuck =
            options_.policy.part != Part::x550 &&
            std::ranges::any_of(functions_, [](const auto& function) { return function->vf().transmit_pending(); });
        if (watchdog_.expired(start, functions_.front()->vf().link_up(), stuck))
            for (const auto& function : functions_) function->vf().reset_pf(PortWatchdog::reset_length);
        const auto wait = sleep_time(start, worked);
        if (wait > 0ns || start - last_look >= between_looks) {
            worked |= serve_sockets(wait);
            last_look = start;
        }
        if (worked) idle_.pause(now(), true);
    }
    for (const auto& function : functions_) function->drop_client();
}

bool Simulator::move_frames(Time time) {
    bool sent = false;
    for (std::size_t i = 0; i < functions_.size(); ++i)
        sent |= functions_[i]->vf().transmit(burst, [&](std::span<const std::byte> frame) { forward(i, frame); }) > 0;
    const bool received = receive_from_wire(time);
    return sent || received;
}

void Simulator::forward(std::size_t sender, std::span<const std::byte> frame) {
    Switch::Route route;
    if (functions_.size() > 1) route = switch_.route(sender, FrameView(frame));
    for (std::size_t i = 0; i < functions_.size(); ++i)
        if (route.functions[i])
            functions_[i]->from_functions.count(functions_[i]->vf().receive(frame, Origin::function), frame.size());
    if (!route.to_wire) return;
    ++functions_[sender]->to_wire;
    wire_->transmit(frame);
}

bool Simulator::receive_from_wire(Time time) {
    if (!started_ && wire_->starts_when_ready()) {
        if (!ready_to_receive()) return false;
        started_ = true;
    }
    std::size_t count = 0;
    for (; count < burst; ++count) {
        const auto frame = wire_->next(time, functions_.front()->vf().pf().address());
        if (frame.empty() || !offer(frame)) break;
        wire_->take();
    }
    return count > 0;
}

/// To every function: each has its own filter. False when the frame waits, since nobody could take it and somebody may
/// do so later. With several functions one without a client keeps nobody waiting.
bool Simulator::offer(std::span<const std::byte> frame) {
    bool may_pass = false, delivered = false;
    for (std::size_t i = 0; i < functions_.size(); ++i) {
        const RxOutcome outcome = outcomes_[i] = functions_[i]->vf().receive(frame, Origin::wire);
        delivered |= outcome == RxOutcome::delivered;
        may_pass |= (functions_.size() == 1 || functions_[i]->connected()) &&
                    (outcome == RxOutcome::no_descriptor || outcome == RxOutcome::rx_disabled ||
                     outcome == RxOutcome::link_down);
    }
    if (may_pass && !delivered && wire_->waits()) return false;
    for (std::size_t i = 0; i < functions_.size(); ++i) functions_[i]->from_wire.count(outcomes_[i], frame.size());
    return true;
}

/// Function 0, whose address generated frames carry, and whoever else is there.
bool Simulator::ready_to_receive() const {
    return functions_.front()->vf().ready_to_receive() && std::ranges::all_of(functions_, [](const auto& function) {
               return !function->connected() || function->vf().ready_to_receive();
           });
}

bool Simulator::doorbells_need_polling() const {
    return options_.offer_doorbells && std::ranges::any_of(functions_, [](const auto& function) {
               const Vf& vf = function->vf();
               return function->connected() &&
                      vf.enabled_queues(Direction::transmit) + vf.enabled_queues(Direction::receive) > 0;
           });
}

std::chrono::nanoseconds Simulator::sleep_time(Time time, bool worked) {
    if (options_.busy || worked) {
        idle_.pause(time, worked);
        return 0ns;
    }
    std::chrono::nanoseconds wait = idle_.pause(time, false);
    if (wait == 0ns) return wait;
    if (!doorbells_need_polling()) wait = longest_sleep;
    const auto not_after = [&](std::optional<Time> due) {
        if (due) wait = std::clamp<std::chrono::nanoseconds>(*due - time, 0ns, wait);
    };
    not_after(wire_->due());
    not_after(script_.due());
    for (const auto& function : functions_) not_after(function->vf().due());
    return wait;
}

bool Simulator::serve_sockets(std::chrono::nanoseconds wait) {
    std::vector<pollfd> entries(functions_.size());
    std::ranges::transform(functions_, entries.begin(),
                           [](const auto& function) { return pollfd{function->descriptor(), POLLIN, 0}; });
    if (wire_->descriptor() >= 0) entries.push_back({wire_->descriptor(), POLLIN, 0});
    const std::size_t control_at = entries.size();
    if (control_) control_->add_to(entries);

    const timespec limit{wait / 1s, static_cast<long>((wait % 1s).count())};
    if (::ppoll(entries.data(), entries.size(), &limit, nullptr) <= 0) return false;
    const auto ready = [](const pollfd& entry) { return entry.revents != 0; };
    for (std::size_t i = 0; i < functions_.size(); ++i)
        if (ready(entries[i])) functions_[i]->serve();
    const auto controls = std::span(entries).subspan(control_at);
    if (std::ranges::any_of(controls, ready)) control_->serve();
    return std::ranges::any_of(std::span(entries).first(control_at), ready);
}

nlohmann::json Simulator::status() const {
    nlohmann::json status;
    functions_.front()->report(status);
    status["part"] = name_of(options_.policy.part);
    status["doorbells"] = options_.offer_doorbells ? "poll" : "trap";
    status["link_up"] = functions_.front()->vf().link_up();
    status["done"] = wire_->done();
    wire_->report(status);
    if (!options_.script_path.empty()) status["script"] = {{"failed", script_.failed()}};
    for (const auto& function : functions_)
        if (functions_.size() > 1) function->report(status["vfs"].emplace_back());
    return status;
}

std::string Simulator::command(const std::string& line) {
    std::vector<Vf*> vfs(functions_.size());
    std::ranges::transform(functions_, vfs.begin(), [](const auto& function) { return &function->vf(); });
    try {
        execute(line, vfs);
        return status().dump();
    } catch (const std::invalid_argument& error) {
        return nlohmann::json{{"error", error.what()}}.dump();
    }
}

}  // namespace vitrine::vf_sim
