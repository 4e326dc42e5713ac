#include "apps/vitrine/nic.hpp"

#include <algorithm>
#include <cerrno>
#include <fmt/ranges.h>
#include <fstream>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "apps/frame/neighbour_message.hpp"
#include "driver/queues.hpp"
#include "mem/locked_memory.hpp"

namespace vitrine::apps {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds drain_limit = 50ms;
constexpr std::uint64_t guest_slice_bytes = std::uint64_t{1} << 30;

/// Three pieces of memory would each name the huge pages that it lacks; here they are counted together.
NicMemoryBytes bytes_if_there_are(const Options& options) {
    const Needs needs = needs_of(options, mem::huge_page_bytes(), 0);
    if (options.backing == mem::Backing::huge_only && needs.huge_pages > mem::free_huge_pages())
        throw std::system_error(ENOMEM, std::generic_category(),
                                fmt::format("--memory huge: {} huge pages of {} KiB needed, {} free ({})",
                                            needs.huge_pages, needs.huge_page_bytes / 1024, mem::free_huge_pages(),
                                            mem::huge_pages_advice(needs.huge_pages)));
    return nic_memory_bytes(options);
}

mem::Iova take_iova(IovaSpace& space, std::size_t bytes, const std::string& what) {
    if (const auto iova = space.take(bytes)) return *iova;
    throw std::system_error(ENOSPC, std::generic_category(), what + ": no room among the DMA addresses");
}

std::optional<mem::PacketRegion> make_region(const Options& options, const NicMemoryBytes& bytes) {
    if (options.rx_mode != "pages") return std::nullopt;
    return std::optional<mem::PacketRegion>(std::in_place,
                                            mem::PacketRegion::Config{.path = options.pages_path,
                                                                      .ledger_path = options.run_directory + "/ledger",
                                                                      .wanted_pages = bytes.packet_pages,
                                                                      .page_bytes = page_bytes_for(options.link_mtu()),
                                                                      .queues = options.pairs,
                                                                      .held_limit = NicMemory::most_lent_pages});
}

/// The same address at every start of the same VM on the same machine.
driver::MacAddress fallback_mac(const Options& options) {
    std::string machine;
    std::ifstream("/etc/machine-id") >> machine;
    return driver::local_address(machine + "/" + options.name);
}

driver::FilterRequest filter_request(const Options& options, const LearnedGroups& learned) {
    driver::FilterRequest request{.vlans = options.vlans,
                                  .promiscuous = options.promiscuous,
                                  .all_multicast = options.multicast != "list",
                                  .groups = options.multicast == "auto" ? learned.list() : options.multicast_groups};
    if (!options.tunnel) return request;
    if (options.tunnel->vlan) request.vlans.push_back(*options.tunnel->vlan);
    if (options.tunnel->ends) {
        // The guest's groups are inside. Outside there are only those who ask for our address.
        if (options.multicast == "auto") request.all_multicast = false;
        if (options.tunnel->ends->local.v6) request.groups.push_back(solicited_node_group(options.tunnel->ends->local));
    }
    return request;
}

}  // namespace

NicMemory::NicMemory(const Options& options, const std::vector<driver::IovaRange>& ranges)
    : bytes(bytes_if_there_are(options)),
      iova_space(ranges),
      region(make_region(options, bytes)),
      packets(region ? mem::SharedMemory{} : mem::make_shared_memory("packet pages", bytes.packets, options.backing)),
      packets_iova(take_iova(iova_space, packet_dma().host.size(), "packet pages")),
      bounce(mem::make_shared_memory("bounce pages", bytes.bounce, options.backing)),
      bounce_iova(take_iova(iova_space, bounce.mapping.size(), "bounce pages")),
      rings(mem::make_shared_memory("descriptor rings", bytes.rings, options.backing)),
      rings_iova(take_iova(iova_space, rings.mapping.size(), "descriptor rings")),
      packet_pool(region ? region->pages() : packets.mapping.bytes().first(bytes.packets), packets_iova,
                  page_bytes_for(options.link_mtu())),
      bounce_pool(bounce.mapping.bytes().first(bytes.bounce), bounce_iova, page_bytes_for(options.link_mtu())) {
    if (region) {
        packet_pool.leave_with_guest([this](mem::PageId page) { return region->ledger().is_lent(page); });
        lending.emplace(packet_pool, region->ledger(), region->info(), region->headers(),
                        mem::InfoPage::offers_pages | mem::InfoPage::offers_offset |
                            (options.packed ? mem::InfoPage::offers_packed_pages : 0u),
                        static_cast<std::uint32_t>(most_lent_pages));
    }
    if (options.is_vfio_user())
        mem::lock_in_memory({&packets, &bounce, &rings});
    else  // what VFIO pins, it counts as locked
        mem::require_lockable(packet_dma().host.size() + bounce.mapping.size() + rings.mapping.size());
}

driver::AnyDevice open_vf(const Options& options, std::chrono::milliseconds patience) {
    constexpr std::chrono::milliseconds answer_limit = 5s;
    return {*driver::parse_vf_place(options.vf), options.is_vfio_user() ? answer_limit : patience};
}

std::string advice_for(const Options& options, const std::system_error& error) {
    if (options.is_vfio_user())
        return error.code() == std::errc::invalid_argument
                   ? ""
                   : " (does the VF's server run, does its PF answer, or has another process the VF?)";
    if (error.code() != std::errc::timed_out && error.code() != std::errc::connection_reset) return {};
    return driver::PciSysfs().advice_for_silence(*driver::parse_vf_place(options.vf));
}

Nic::Nic(const Options& options, driver::AnyDevice device, NicMemory& memory, const LearnedGroups& learned_groups)
    : options_(options),
      memory_(memory),
      learned_groups_(learned_groups),
      device_(std::move(device)),
      part_(driver::identify(device_)),
      vf_(device_, clock_) {
    if (!memory.iova_space.fits(device_.iova_ranges()))
        throw std::system_error(
            ERANGE, std::generic_category(),
            "the VF is behind another IOMMU now, which does not take our addresses: restart vitrine");
    const auto map = [this](const mem::SharedMemory& shared, mem::Iova iova, driver::DmaAccess access) {
        device_.map_dma(iova, {shared.mapping.bytes(), shared.file.get(), 0}, access);
    };
    device_.map_dma(memory.packets_iova, memory.packet_dma(), driver::DmaAccess::device_reads_and_writes);
    map(memory.bounce, memory.bounce_iova, driver::DmaAccess::device_reads);
    map(memory.rings, memory.rings_iova, driver::DmaAccess::device_reads_and_writes);
    driver::enable_bus_master(device_);
    reset();
}

Nic::~Nic() {
    if (partly_mapped_) memory_.iova_space.give(partly_mapped_->iova);  // the mapping goes with the device
}

void Nic::reset() {
    if (std::exchange(reset_failed_, true)) {
        device_.reset();
        driver::enable_bus_master(device_);
    }
    vf_.reset(fallback_mac(options_));
    const driver::Identity& identity = vf_.identity();
    if (options_.pairs > identity.rx_queues || options_.pairs > identity.tx_queues)
        throw std::system_error(EINVAL, std::generic_category(),
                                "--queues " + std::to_string(options_.pairs) + ": the PF gives this VF " +
                                    std::to_string(identity.rx_queues) + " receive and " +
                                    std::to_string(identity.tx_queues) + " transmit queues");
    frame_limit_granted_ = vf_.set_longest_frame(options_.link_mtu() + 18u);
    filters_ = vf_.set_filters(filter_request(options_, learned_groups_));
    statistics_.begin(device_);
    driver::route_interrupts(device_, options_.pairs);
    routes_read_back_ = driver::interrupts_routed(device_);
    reset_failed_ = false;
    say_what_was_refused();
}

void Nic::refresh_groups() {
    if (filters_.mode == driver::ReceiveMode::multicast_hashes) vf_.set_groups(learned_groups_.list(), filters_);
}

/// What the PF keeps away looks like silence on the wire: it is said once, here.
void Nic::say_what_was_refused() const {
    if (identity().api_misreported)
        spdlog::warn("VF: the PF agrees to another mailbox version than was asked; {} is used",
                     text_of(identity().api));
    if (!frame_limit_granted_)
        spdlog::warn("VF: the PF refuses frames of {} bytes: raise the PF's MTU, or lower --mtu",
                     options_.link_mtu() + 18);
    if (!filters_.vlans_refused.empty())
        spdlog::warn("VF: the PF refuses VLANs {}", fmt::join(filters_.vlans_refused, ","));
    if (options_.promiscuous && filters_.mode != driver::ReceiveMode::promiscuous)
        spdlog::warn("VF: not promiscuous: the PF does not trust this VF");
    if (filters_.groups_left_out != 0)
        spdlog::warn("VF: {} multicast groups do not fit into its filter", filters_.groups_left_out);
}

driver::RingPlace Nic::rx_place(unsigned queue) const {
    return {memory_.rings_iova + queue * NicMemory::rx_slots * sizeof(driver::RxDescriptor), NicMemory::rx_slots};
}

driver::RingPlace Nic::tx_place(unsigned queue) const {
    const std::size_t behind_rx = options_.pairs * NicMemory::rx_slots * sizeof(driver::RxDescriptor);
    return {memory_.rings_iova + behind_rx + queue * NicMemory::tx_slots * sizeof(driver::TxDescriptor),
            NicMemory::tx_slots};
}

template <class Descriptor>
std::span<Descriptor> Nic::slots(const driver::RingPlace& place) const {
    std::byte* begin = memory_.rings.mapping.data() + (place.base - memory_.rings_iova);
    return {reinterpret_cast<Descriptor*>(begin), place.slots};
}

void Nic::start(std::vector<std::unique_ptr<Pair>>& pairs, Poller& poller) {
    const unsigned queues = static_cast<unsigned>(pairs.size());
    device_.set_interrupts(std::array{queue_event_.get(), mailbox_event_.get()});
    driver::arm_mailbox_interrupt(device_);
    driver::spread_receive(device_, queues);
    queues_.resize(queues);
    health_.begin(progress(), statistics());
    running_ = true;
    for (unsigned queue = 0; queue < queues; ++queue) {
        driver::start_transmit_queue(device_, clock_, queue, tx_place(queue));
        queues_[queue].tx = std::make_unique<driver::TxRing>(slots<driver::TxDescriptor>(tx_place(queue)),
                                                             device_.doorbell(driver::VFTDT::at(queue)), vlan());
        pairs[queue]->transmit.attach(*queues_[queue].tx);
    }
    for (unsigned queue = 0; queue < queues; ++queue) receive_in_pages(queue, pairs[queue]->receive);
    poller.set_vf_interrupt(
        Poller::VfInterrupt{driver::QueueInterrupt(device_.doorbell(driver::VTEIMS::at())), queue_event_.get()});
}

void Nic::acknowledge_mailbox() {
    mailbox_event_.drain();
    if (running_) driver::arm_mailbox_interrupt(device_);
}

bool Nic::stop(std::vector<std::unique_ptr<Pair>>& pairs, Poller& poller) noexcept {
    poller.set_vf_interrupt(std::nullopt);
    bool stopped = true;
    const auto attempt = [&stopped](auto&& step) {
        try {
            step();
        } catch (const std::system_error&) {
            stopped = false;
        }
    };
    for (unsigned queue = 0; queue < queues_.size(); ++queue) {
        if (queues_[queue].tx) attempt([&] { driver::stop_transmit_queue(device_, clock_, queue, drain_limit); });
        attempt([&] { driver::stop_receive_queue(device_, clock_, queue); });
    }
    for (unsigned queue = 0; queue < queues_.size(); ++queue) {
        pairs[queue]->transmit.detach();
        if (queues_[queue].direct) pairs[queue]->receive.detach_direct();
        pairs[queue]->receive.detach(queues_[queue].rx ? queues_[queue].rx->release() : 0);
    }
    earlier_rings_ = rx_ring_counters();
    queues_.clear();
    running_ = false;
    return stopped;
}

void Nic::stop_receiving(unsigned queue, ReceivePath& path) {
    Queue& stopped = queues_[queue];
    if (!stopped.rx && !stopped.direct) return;
    driver::stop_receive_queue(device_, clock_, queue);
    if (stopped.direct) {
        path.detach_direct();
        earlier_rings_ += stopped.direct->counters();
    } else {
        while (path.move() != 0) {
        }
        path.detach(stopped.rx->release());
        earlier_rings_ += stopped.rx->counters();
    }
    stopped.rx.reset();
    stopped.direct.reset();
}

void Nic::receive_in_pages(unsigned queue, ReceivePath& path) {
    stop_receiving(queue, path);
    const std::uint32_t buffer_kib = driver::packet_buffer_kib(memory_.packet_pool.page_bytes());
    driver::start_receive_queue(device_, clock_, queue, rx_place(queue), buffer_kib, vlan() != 0);
    queues_[queue].rx = std::make_unique<driver::RxRing>(
        slots<driver::RxDescriptor>(rx_place(queue)), device_.doorbell(driver::VFRDT::at(queue)), memory_.packet_pool);
    queues_[queue].rx->fill();
    path.attach(*queues_[queue].rx, NicMemory::rx_slots);
}

void Nic::receive_direct(unsigned queue, ReceivePath& path, std::uint32_t room_bytes) {
    stop_receiving(queue, path);
    const std::uint32_t buffer_kib = driver::packet_buffer_kib(room_bytes);
    driver::start_receive_queue(device_, clock_, queue, rx_place(queue), buffer_kib);
    queues_[queue].direct = std::make_unique<driver::BufferRing>(
        slots<driver::RxDescriptor>(rx_place(queue)), device_.doorbell(driver::VFRDT::at(queue)), buffer_kib * 1024);
    path.attach_direct(*queues_[queue].direct);
}

void Nic::drain(unsigned queue, TransmitPath& path) {
    const bool drained = driver::wait_until(clock_, drain_limit, 100us, [&] {
        path.reclaim();
        return !path.holds_guest_memory();
    });
    if (drained) return;
    driver::stop_transmit_queue(device_, clock_, queue, 0ms);
    path.roll_back();
    driver::start_transmit_queue(device_, clock_, queue, tx_place(queue));
}

std::optional<mem::Iova> Nic::map_guest_further(const virtio::GuestRegion& region) {
    if (partly_mapped_ && partly_mapped_->guest != region.guest) forget_partly_mapped();
    if (!partly_mapped_)
        partly_mapped_ = {region.guest, take_iova(memory_.iova_space, region.size_bytes, "guest memory"), 0};
    auto& [guest, iova, done_bytes] = *partly_mapped_;
    const std::uint64_t bytes = std::min(guest_slice_bytes, region.size_bytes - done_bytes);
    const auto access = can_be_direct() ? driver::DmaAccess::device_reads_and_writes : driver::DmaAccess::device_reads;
    try {
        device_.map_dma(iova + done_bytes,
                        {{region.host + done_bytes, bytes}, region.file.get(), region.file_offset + done_bytes},
                        access);
    } catch (...) {
        forget_partly_mapped();
        throw;
    }
    done_bytes += bytes;
    if (done_bytes < region.size_bytes) return std::nullopt;
    return std::exchange(partly_mapped_, std::nullopt)->iova;
}

void Nic::unmap_guest(const virtio::GuestRegion& region) noexcept {
    if (partly_mapped_ && partly_mapped_->guest == region.guest) forget_partly_mapped();
    if (region.iova.raw != 0) unmap_slices(region.iova, region.size_bytes);
}

void Nic::forget_partly_mapped() noexcept {
    const PartlyMapped begun = *std::exchange(partly_mapped_, std::nullopt);
    unmap_slices(begun.iova, begun.done_bytes);
}

/// A vfio-user server takes back only what it was given in one piece.
void Nic::unmap_slices(mem::Iova iova, std::uint64_t bytes) noexcept {
    try {
        for (std::uint64_t done = 0; done < bytes; done += guest_slice_bytes)
            device_.unmap_dma(iova + done, std::min(guest_slice_bytes, bytes - done));
        memory_.iova_space.give(iova);
    } catch (const std::system_error& error) {  // refused, or the device is gone and its mappings with it
        spdlog::warn("VF: {}; those DMA addresses are not used again", error.what());
    }
}

driver::RxRing::Counters Nic::rx_ring_counters() const {
    driver::RxRing::Counters sum = earlier_rings_;
    for (const Queue& queue : queues_) {
        if (queue.rx) sum += queue.rx->counters();
        if (queue.direct) sum += queue.direct->counters();
    }
    return sum;
}

driver::RingProgress Nic::progress() const {
    driver::RingProgress progress{.received = rx_ring_counters()};
    for (std::size_t queue = 0; queue < queues_.size(); ++queue) {
        if (queues_[queue].rx)
            progress.receive[queue] = {queues_[queue].rx->position(), queues_[queue].rx->backlog_at_least(1)};
        if (const auto& direct = queues_[queue].direct) {
            // With few buffers it is the guest who is slow: not even one frame may fit.
            const bool few = direct->armed() <= virtio::OffsetQueue::most_buffers_of_any_frame;
            progress.receive[queue] = {direct->position(), few || direct->backlog_at_least(1)};
        }
        if (queues_[queue].tx)
            progress.transmit[queue] = {queues_[queue].tx->finished(), queues_[queue].tx->in_flight() != 0};
    }
    return progress;
}

driver::Troubles Nic::look(driver::RingProgress progress) {
    const auto queues = static_cast<unsigned>(queues_.size());
    driver::compare_heads(device_, progress, queues, NicMemory::rx_slots);
    return health_.look(progress, statistics(), driver::queues_enabled(device_, queues));
}

}  // namespace vitrine::apps
