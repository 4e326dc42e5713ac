// What vitrinectl is told. Everything is read while the poll thread stands still, so that the numbers fit together.

#include <fmt/ranges.h>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "apps/vitrine/daemon.hpp"
#include "virtio/features.hpp"

namespace vitrine::apps {
namespace {

using nlohmann::json;

template <class Counters>
json named(const Counters& counters) {
    json object = json::object();
    for (const auto& counter : Counters::names) object[std::string(counter.name)] = counters.*counter.value;
    return object;
}

std::string text_of(driver::Part part) {
    switch (part) {
        case driver::Part::intel_82599:
            return "82599";
        case driver::Part::x540:
            return "X540";
        case driver::Part::x550:
            return "X550";
        case driver::Part::x552:
            return "X552";
        case driver::Part::x553:
            return "X553";
    }
    return "unknown";
}

std::string text_of(driver::ReceiveMode mode) {
    switch (mode) {
        case driver::ReceiveMode::none:
            return "unicast";
        case driver::ReceiveMode::multicast_hashes:
            return "multicast hashes";
        case driver::ReceiveMode::all_multicast:
            return "all multicast";
        case driver::ReceiveMode::promiscuous:
            return "promiscuous";
    }
    return "unknown";
}

json pages_of(const mem::PagePool& pool) {
    const mem::PagePool::Audit audit = pool.audit();
    return {{"total", pool.pages()},          {"free", audit.held[0]},  {"nic", audit.held[1]},
            {"device", audit.held[2]},        {"guest", audit.held[3]}, {"free_list_agrees", audit.free_list_agrees},
            {"page_bytes", pool.page_bytes()}};
}

/// Pinning a large guest takes a while: how far it is.
json memory_sizes(const virtio::GuestMemory& memory) {
    std::uint64_t bytes = 0, dma_bytes = 0;
    for (const virtio::GuestRegion& region : memory.regions()) {
        bytes += region.size_bytes;
        if (region.iova.raw != 0) dma_bytes += region.size_bytes;
    }
    return {{"bytes", bytes}, {"dma_bytes", dma_bytes}};
}

/// Every page in one hand, and the hands agree: what the pool says is out is what the rings and paths say they hold.
bool conserved(const mem::PagePool& pool, std::size_t with_nic, std::size_t with_device, std::size_t with_guest) {
    const mem::PagePool::Audit audit = pool.audit();
    return audit.free_list_agrees && audit.total() == pool.pages() && audit.held[1] == with_nic &&
           audit.held[2] == with_device && audit.held[3] == with_guest;
}

}  // namespace

json Daemon::answer(const std::string& method) {
    if (method == "status") return status();
    if (method == "audit") return audit();
    throw std::invalid_argument("no such method: " + method + " (status, audit)");
}

json Daemon::vf_status() {
    json vf{{"device", options_.vf},
            {"resets", vf_events_.resets},
            {"losses", vf_events_.losses},
            {"last_loss", vf_events_.last_loss},
            {"bus_errors", vf_events_.bus_errors},
            {"wanted_back", vf_events_.wanted_back},
            {"link_downs", vf_events_.link_downs},
            {"mailbox_silent", vf_events_.mailbox_silent},
            {"failures", vf_events_.failures}};
    for (std::size_t i = 0; i < vf_events_.troubles.size(); ++i)
        vf["troubles"][driver::trouble_names[i]] = vf_events_.troubles[i];
    if (!nic_) {
        vf["state"] = "absent";
        return vf;
    }
    const driver::Identity& identity = nic_->identity();
    const driver::FilterGrant& filters = nic_->filters();
    const driver::RxRing::Counters ring = nic_->rx_ring_counters();
    vf["state"] = needs_reset_ ? "in reset" : nic_->running() ? "up" : "link down";
    vf["door"] = nic_->door_name();
    vf["part"] = text_of(nic_->part());
    vf["mac"] = fmt::format("{:02x}", fmt::join(identity.mac, ":"));
    vf["mac_from_pf"] = identity.mac_from_pf;
    vf["mailbox_api"] = text_of(identity.api);
    vf["mailbox_api_misreported"] = identity.api_misreported;
    vf["queues"] = {{"receive", identity.rx_queues}, {"transmit", identity.tx_queues}};
    vf["link_mbps"] = nic_->link().speed_mbps;
    vf["longest_frame_granted"] = nic_->frame_limit_granted();
    vf["filters"] = {{"mode", text_of(filters.mode)},
                     {"hashes", filters.hashes.size()},
                     {"groups_left_out", filters.groups_left_out},
                     {"vlans_refused", filters.vlans_refused}};
    vf["rx_ring"] = {{"bad_descriptors", ring.bad_descriptors},
                     {"errors", ring.errors},
                     {"out_of_order", ring.out_of_order},
                     {"pool_empty", ring.pool_empty}};
    if (nic_->running()) {
        const driver::Statistics& statistics = nic_->last_statistics();
        vf["statistics"] = {{"rx_frames", statistics.rx_frames},
                            {"rx_octets", statistics.rx_octets},
                            {"rx_multicast_frames", statistics.rx_multicast_frames},
                            {"tx_frames", statistics.tx_frames},
                            {"tx_octets", statistics.tx_octets}};
    }
    return vf;
}

json Daemon::tunnel_status() const {
    const TunnelOptions& options = tunnel_->options();
    json tunnel = json::object();
    if (options.vlan) tunnel["vlan"] = *options.vlan;
    if (!options.ends) return tunnel;
    const auto next_hop = tunnel_->next_hop();
    tunnel["kind"] = options.ends->encapsulation == Encapsulation::vxlan ? "vxlan" : "geneve";
    tunnel["vni"] = options.ends->vni;
    tunnel["port"] = options.ends->port;
    tunnel["local"] = text_of(options.ends->local);
    tunnel["remote"] = text_of(options.ends->remote);
    tunnel["next_hop_mac"] = next_hop ? json(fmt::format("{:02x}", fmt::join(*next_hop, ":"))) : json(nullptr);
    return tunnel;
}

/// One line: "vm1: front-end connected, 2 rings, link 10G".
std::string Daemon::summary() {
    std::string line = options_.name + ": ";
    if (session_) {
        unsigned rings = 0;
        for (unsigned ring = 0; ring < device_.rings(); ++ring) rings += device_.running(ring) ? 1 : 0;
        line += fmt::format("front-end connected, {} rings, ", rings);
    } else {
        line += "no front-end, ";
    }
    if (!nic_) return line + "VF absent: trying again";
    if (needs_reset_) return line + "VF in reset";
    const driver::Link link = nic_->link();
    if (!link.up) return line + "link down";
    const bool whole = link.speed_mbps % 1000 == 0;
    return line + (whole ? fmt::format("link {}G", link.speed_mbps / 1000) : fmt::format("link {}M", link.speed_mbps));
}

json Daemon::status() {
    try {
        if (nic_ && nic_->running()) nic_->statistics();  // asks the device, while the data path goes on
    } catch (const std::system_error& error) {
        distrust_vf(error);  // the answer has the last numbers
    }
    const mem::Handover::Hold hold = poller_.hold();
    const Poller::Turns turns = poller_.turns();
    json result{{"vitrine", VITRINE_VERSION}, {"name", options_.name}, {"vf", vf_status()}};
    if (tunnel_) result["tunnel"] = tunnel_status();
    result["summary"] = summary();
    result["sandbox"] = sandbox_.status();
    result["front_end"] = {{"connected", session_ != nullptr},
                           {"refused_for_user", front_ends_refused_},
                           {"accept_failures", front_end_accept_failures_},
                           {"features", fmt::format("{:#x}", device_.features())},
                           {"offered", fmt::format("{:#x}", device_.offered_features())},
                           {"memory", memory_sizes(device_.memory())},
                           {"session", named(device_.session_counters())}};
    result["control"] = {{"accept_failures", control_.accept_failures()}};
    result["poller"] = {{"busy_turns", turns.busy}, {"idle_turns", turns.idle}, {"sleeps", turns.sleeps}};
    result["direct"] = {{"begun", direct_events_.begun},
                        {"ended", direct_events_.ended},
                        {"copied_no_guest_dma", direct_events_.copied_no_guest_dma},
                        {"copied_not_mapped", direct_events_.copied_not_mapped},
                        {"copied_fewer_rings", direct_events_.copied_fewer_rings}};
    result["pages"] = {{"packets", pages_of(memory_.packet_pool)}, {"bounce", pages_of(memory_.bounce_pool)}};
    result["pairs"] = json::array();
    for (unsigned pair = 0; pair < pairs_.size(); ++pair) {
        json receive = named(pairs_[pair]->receive_counters);
        receive["waiting"] = pairs_[pair]->receive.waiting();
        receive["is_direct"] = pairs_[pair]->receive.is_direct();
        json receive_ring = named(device_.receive_counters(pair));
        const virtio::ReceiveRing* ring = device_.receive(pair);
        receive_ring["runs_as"] = ring != nullptr ? ring->text() : "not running";
        receive_ring["held"] = ring != nullptr ? ring->held() : 0;
        result["pairs"].push_back({{"receive", receive},
                                   {"receive_ring", receive_ring},
                                   {"transmit", named(pairs_[pair]->transmit_counters)},
                                   {"transmit_ring", named(device_.transmit_counters(pair))}});
    }
    return result;
}

json Daemon::audit() {
    const mem::Handover::Hold hold = poller_.hold();
    std::size_t packets_in_nic = 0, packets_waiting = 0, bounce_in_nic = 0;
    for (const auto& pair : pairs_) {
        packets_in_nic += pair->receive.pages_in_nic();
        packets_waiting += pair->receive.waiting();
        bounce_in_nic += pair->transmit.pages_in_nic();
    }
    std::size_t lent = 0;
    for (unsigned queue = 0; memory_.region && queue < memory_.region->ledger().queues(); ++queue)
        lent += memory_.region->ledger().lent_to(queue);
    return {{"conserved", conserved(memory_.packet_pool, packets_in_nic, packets_waiting, lent) &&
                              conserved(memory_.bounce_pool, bounce_in_nic, 0, 0)},
            {"packets", pages_of(memory_.packet_pool)},
            {"bounce", pages_of(memory_.bounce_pool)}};
}

}  // namespace vitrine::apps
