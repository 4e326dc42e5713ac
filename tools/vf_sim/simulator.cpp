#include "tools/vf_sim/simulator.hpp"

#include <charconv>
#include <poll.h>
#include <system_error>
#include <time.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "mem/socket.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t burst = 32;
constexpr int messages_at_once = 64;
constexpr std::chrono::milliseconds longest_sleep{50};
constexpr std::chrono::milliseconds message_limit{5000};  // for the rest of a message, and for a client to read

Time now() {
    return std::chrono::steady_clock::now();
}

std::string text_of(const EthernetAddress& address) {
    char text[18];
    std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", address[0], address[1], address[2], address[3],
                  address[4], address[5]);
    return text;
}

nlohmann::json describe(const TxCounters& tx) {
    return {{"frames", tx.sent},
            {"bytes", tx.sent_bytes},
            {"dropped",
             {{"spoofed", tx.spoofed},
              {"too_short", tx.too_short},
              {"no_crc", tx.no_crc},
              {"offload_refused", tx.offload_refused}}},
            {"halted",
             {{"descriptor", tx.halted_descriptor},
              {"chain", tx.halted_chain},
              {"length", tx.halted_length},
              {"dma", tx.halted_dma}}}};
}

}  // namespace

Simulator::Simulator(const Options& options)
    : options_(options),
      vf_(options.policy),
      wire_(make_wire(options.wire)),
      listener_(mem::listen_unix(options.socket_path)) {
    if (!options.control_path.empty())
        control_.emplace(options.control_path, [this](const std::string& line) { return command(line); });
}

Simulator::~Simulator() {
    ::unlink(options_.socket_path.c_str());
}

void Simulator::run(const std::atomic<bool>& stop) {
    // Sockets cost a system call: under load they are looked at every few turns, unless doorbells come through them.
    const unsigned turns_between = options_.offer_doorbells ? 8 : 1;
    for (unsigned turn = 0; !stop.load(std::memory_order_relaxed); ++turn) {
        const Time start = now();
        bool worked = move_frames(start);
        vf_.advance(start);
        const auto wait = sleep_time(start, worked);
        if (wait > 0ns || turn % turns_between == 0) worked = serve_sockets(wait);
        if (worked) idle_.pause(now(), true);
    }
    drop_client();
}

bool Simulator::move_frames(Time time) {
    const bool sent = vf_.transmit(burst, [this](std::span<const std::byte> frame) { wire_->transmit(frame); }) > 0;
    const bool received = receive_from_wire(time);
    return sent || received;
}

bool Simulator::receive_from_wire(Time time) {
    if (!started_ && wire_->starts_when_ready()) {
        if (!vf_.ready_to_receive()) return false;
        started_ = true;
    }
    std::size_t count = 0;
    for (; count < burst; ++count) {
        const auto frame = wire_->next(time, vf_.pf().address());
        if (frame.empty()) break;
        const RxOutcome outcome = vf_.receive(frame);
        const bool may_pass =
            outcome == RxOutcome::no_descriptor || outcome == RxOutcome::rx_disabled || outcome == RxOutcome::link_down;
        if (may_pass && wire_->waits()) break;
        rx_.count(outcome, frame.size());
        wire_->take();
    }
    return count > 0;
}

bool Simulator::doorbells_need_polling() const {
    return options_.offer_doorbells && client_ &&
           vf_.enabled_queues(Direction::transmit) + vf_.enabled_queues(Direction::receive) > 0;
}

std::chrono::nanoseconds Simulator::sleep_time(Time time, bool worked) {
    if (options_.busy || worked) {
        idle_.pause(time, worked);
        return 0ns;
    }
    std::chrono::nanoseconds wait = idle_.pause(time, false);
    if (wait == 0ns) return wait;
    if (!doorbells_need_polling()) wait = longest_sleep;
    for (const auto due : {vf_.due(), wire_->due()})
        if (due) wait = std::clamp<std::chrono::nanoseconds>(*due - time, 0ns, wait);
    return wait;
}

bool Simulator::serve_sockets(std::chrono::nanoseconds wait) {
    std::vector<pollfd> entries;
    entries.push_back({client_ ? client_->socket.get() : listener_.get(), POLLIN, 0});
    const std::size_t wire_at = entries.size();
    if (wire_->descriptor() >= 0) entries.push_back({wire_->descriptor(), POLLIN, 0});
    const std::size_t control_at = entries.size();
    if (control_) control_->add_to(entries);

    const timespec limit{wait / 1s, static_cast<long>((wait % 1s).count())};
    if (::ppoll(entries.data(), entries.size(), &limit, nullptr) <= 0) return false;
    if (entries[0].revents != 0) {
        if (!client_)
            accept_client();
        else if (!serve_client())
            drop_client();
    }
    for (std::size_t i = control_at; i < entries.size(); ++i)
        if (entries[i].revents != 0) {
            control_->serve();
            break;
        }
    return entries[0].revents != 0 || (control_at > wire_at && entries[wire_at].revents != 0);
}

void Simulator::accept_client() {
    mem::FileDescriptor socket = mem::accept_unix(listener_.get());
    if (!socket) return;
    ++sessions_;
    client_.emplace(Client{std::move(socket), VfioUserSession(vf_, options_.offer_doorbells)});
}

bool Simulator::serve_client() {
    try {
        for (int count = 0; count < messages_at_once; ++count) {
            mem::vfio_user::Header header;
            std::vector<mem::FileDescriptor> descriptors;
            if (!mem::receive_exact(client_->socket.get(), mem::writable_bytes_of(header), descriptors, message_limit))
                return false;
            const auto size = VfioUserSession::payload_bytes(header);
            if (!size) {
                ++malformed_[size.error()];
                return false;
            }
            std::vector<std::byte> payload(*size);
            if (!payload.empty() && !mem::receive_exact(client_->socket.get(), payload, descriptors, message_limit)) {
                ++broken_sessions_;
                return false;
            }
            const auto reply = client_->session.handle(header, payload, std::move(descriptors));
            if (!reply) {
                ++malformed_[reply.error()];
                return false;
            }
            if (!reply->bytes.empty())
                mem::send_all(client_->socket.get(), reply->bytes, reply->descriptors, message_limit);
            if (!mem::wait_readable(client_->socket.get(), 0ms)) break;
        }
        return true;
    } catch (const std::system_error&) {
        ++broken_sessions_;
        return false;
    }
}

void Simulator::drop_client() {
    if (!client_) return;
    client_.reset();
    vf_.detach();
}

nlohmann::json Simulator::status() const {
    constexpr auto delivered = static_cast<std::size_t>(RxOutcome::delivered);
    nlohmann::json status;
    const PhysicalFunction& pf = vf_.pf();
    status["part"] = name_of(options_.policy.part);
    status["doorbells"] = options_.offer_doorbells ? "poll" : "trap";
    status["connected"] = client_.has_value();
    status["link_up"] = vf_.link_up();
    status["vf"] = {{"mac", text_of(pf.address())},
                    {"api", text_of(pf.api())},
                    {"clear_to_send", pf.clear_to_send()},
                    {"receive_enabled", pf.receive_enabled()},
                    {"longest_frame", pf.longest_frame_bytes()},
                    {"mode", static_cast<unsigned>(pf.filter().mode())},
                    {"rx_queues_enabled", vf_.enabled_queues(Direction::receive)},
                    {"tx_queues_enabled", vf_.enabled_queues(Direction::transmit)}};
    std::uint64_t offered = 0;
    for (std::size_t i = 0; i < rx_.frames.size(); ++i) {
        offered += rx_.frames[i];
        if (i != delivered) status["drops"][rx_outcome_names[i]] = rx_.frames[i];
    }
    status["wire"] = {
        {"offered", offered}, {"rx_delivered", rx_.frames[delivered]}, {"rx_delivered_bytes", rx_.delivered_bytes}};
    status["tx"] = describe(vf_.tx_counters());
    const DmaMap::Faults& faults = vf_.memory().faults();
    status["faults"] = {{"dma_unmapped", faults.unmapped},
                        {"dma_permission", faults.permission},
                        {"dma_null_address", faults.null_address},
                        {"dma_memory_lost", vf_.memory().lost()},
                        {"mailbox_lost", vf_.messages_lost()}};
    status["sessions"] = {
        {"accepted", sessions_}, {"broken", broken_sessions_}, {"malformed", nlohmann::json::object()}};
    for (const auto& [reason, count] : malformed_) status["sessions"]["malformed"][name_of(reason)] = count;
    status["done"] = wire_->done();
    wire_->report(status);
    return status;
}

std::string Simulator::command(const std::string& line) {
    constexpr std::string_view reset = "pf-reset";
    constexpr unsigned usual_reset_ms = 100;
    if (line == "link down" || line == "link up") {
        vf_.set_link(line == "link up");
    } else if (line == reset) {
        vf_.reset_pf(std::chrono::milliseconds(usual_reset_ms));
    } else if (line.starts_with("pf-reset ")) {
        unsigned length = 0;
        const char* end = line.data() + line.size();
        const auto [stop, error] = std::from_chars(line.data() + reset.size() + 1, end, length);
        if (error != std::errc{} || stop != end || length > 60'000)
            return R"({"error":"pf-reset takes 0 to 60000 ms"})";
        vf_.reset_pf(std::chrono::milliseconds(length));
    } else if (line != "status") {
        return R"({"error":"commands: status, link down, link up, pf-reset [MILLISECONDS]"})";
    }
    return status().dump();
}

}  // namespace vitrine::vf_sim
