#include "tools/vf_sim/function.hpp"

#include <chrono>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <nlohmann/json.hpp>

#include "mem/socket.hpp"
#include "tools/vf_sim/text.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace std::chrono_literals;

constexpr int messages_at_once = 64;
constexpr std::chrono::milliseconds message_limit{5000};  // for the rest of a message, and for a client to read

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

nlohmann::json describe_drops(const RxCounters& counters) {
    nlohmann::json drops;
    for (std::size_t i = 0; i < counters.frames.size(); ++i)
        if (i != static_cast<std::size_t>(RxOutcome::delivered)) drops[rx_outcome_names[i]] = counters.frames[i];
    return drops;
}

/// Those that were broken, with their counts.
nlohmann::json describe_rules(const Rules::Counts& counts) {
    nlohmann::json rules = nlohmann::json::object();
    for (std::size_t i = 0; i < counts.size(); ++i)
        if (counts[i] != 0) rules[rule_texts[i].name] = counts[i];
    return rules;
}

}  // namespace

Function::Function(std::string socket_path, const Policy& policy, bool offer_doorbells, std::shared_ptr<Port> port)
    : socket_path_(std::move(socket_path)),
      offer_doorbells_(offer_doorbells),
      vf_(policy, std::move(port)),
      listener_(mem::listen_unix(socket_path_)) {}

Function::~Function() {
    ::unlink(socket_path_.c_str());
}

void Function::serve() {
    if (client_) {
        if (!serve_messages()) drop_client();
    } else if (mem::FileDescriptor socket = mem::accept_unix(listener_.get())) {
        ++sessions_;
        client_.emplace(Client{std::move(socket), VfioUserSession(vf_, offer_doorbells_)});
    }
}

bool Function::serve_messages() {
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
            // Rules about time want the time of each message.
            if (vf_.rules().strict()) vf_.advance(std::chrono::steady_clock::now());
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

void Function::drop_client() {
    if (!client_) return;
    client_.reset();
    vf_.detach();
}

void Function::report(nlohmann::json& status) const {
    const PhysicalFunction& pf = vf_.pf();
    status["connected"] = connected();
    status["vf"] = {{"mac", text_of(pf.address())},
                    {"api", driver::text_of(pf.api())},
                    {"clear_to_send", pf.clear_to_send()},
                    {"receive_enabled", pf.receive_enabled()},
                    {"longest_frame", pf.longest_frame_bytes()},
                    {"mode", static_cast<unsigned>(pf.filter().mode())},
                    {"rx_queues_enabled", vf_.enabled_queues(Direction::receive)},
                    {"tx_queues_enabled", vf_.enabled_queues(Direction::transmit)}};
    status["wire"] = {{"offered", from_wire.offered()},
                      {"rx_delivered", from_wire.delivered()},
                      {"rx_delivered_bytes", from_wire.delivered_bytes}};
    status["drops"] = describe_drops(from_wire);
    status["switched"] = {{"offered", from_functions.offered()},
                          {"delivered", from_functions.delivered()},
                          {"delivered_bytes", from_functions.delivered_bytes},
                          {"drops", describe_drops(from_functions)}};
    status["tx"] = describe(vf_.tx_counters());
    status["tx"]["to_wire"] = to_wire;
    const DmaMap::Faults& faults = vf_.memory().faults();
    status["faults"] = {{"dma_unmapped", faults.unmapped},
                        {"dma_permission", faults.permission},
                        {"dma_null_address", faults.null_address},
                        {"dma_memory_lost", vf_.memory().lost()},
                        {"mailbox_lost", vf_.messages_lost()}};
    const Rules& rules = vf_.rules();
    if (vf_.pf().policy().strict) status["violations"] = describe_rules(rules.violations());
    if (vf_.pf().policy().mdd) status["mdd"] = describe_rules(rules.stops());
    status["sessions"] = {
        {"accepted", sessions_}, {"broken", broken_sessions_}, {"malformed", nlohmann::json::object()}};
    for (const auto& [reason, count] : malformed_) status["sessions"]["malformed"][name_of(reason)] = count;
}

}  // namespace vitrine::vf_sim
