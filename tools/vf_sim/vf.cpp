#include "tools/vf_sim/vf.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tools/vf_sim/checksums.hpp"
#include "tools/vf_sim/rx_engine.hpp"

namespace vitrine::vf_sim {
namespace {

using namespace driver;

constexpr std::uint32_t page_bytes = 0x1000;
constexpr std::size_t crc_bytes = 4, tag_bytes = 4;
/// The smallest share of a port that silicon can give: 64 pools of 2 queues each.
constexpr unsigned least_queues = 2;

template <class Register>
bool is(std::uint32_t offset) {
    return offset == Register::at();
}

}  // namespace

Vf::Vf(const Policy& policy, std::shared_ptr<Port> port)
    : config_(policy.part),
      pf_(policy, std::move(port)),
      rules_(policy.strict, policy.mdd && policy.part == Part::x550),
      doorbells_(mem::make_shared_memory("vf_sim-bar0", bar0_bytes, mem::Backing::small_only)),
      queues_(std::max(policy.queues, least_queues)) {
    const auto tail_at = [this](std::uint32_t offset) -> std::uint32_t& {
        return *reinterpret_cast<std::uint32_t*>(doorbells_.mapping.data() + offset);
    };
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        rx_.emplace_back(Direction::receive, tail_at(VFRDT::at(queue))).reset();
        tx_.emplace_back(Direction::transmit, tail_at(VFTDT::at(queue))).reset();
    }
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        rx_watch_.emplace_back(Direction::receive, rx_[queue], memory_, rules_);
        tx_watch_.emplace_back(Direction::transmit, tx_[queue], memory_, rules_);
    }
    for (unsigned queue = 0; queue < queues_; ++queue)
        engines_.push_back(std::make_unique<TxEngine>(tx_[queue], memory_, tx_counters_, rules_, tx_watch_[queue]));
    own_rss_.table_entries = 64;
}

std::uint32_t Vf::load(std::uint32_t offset) {
    if (faults_.removed) return all_ones;
    switch (offset / page_bytes) {
        case 0:
            return load_page_0(offset);
        case 1:
        case 2:
            if (const auto value = statistics_.load(offset)) return *value;
            return load_queue(offset / page_bytes == 1 ? rx_ : tx_, offset % page_bytes);
        default: {
            const std::uint32_t* word = own_rss_word(offset);
            return word != nullptr ? *word : 0;
        }
    }
}

void Vf::store(std::uint32_t offset, std::uint32_t value) {
    if (faults_.removed) return;
    switch (offset / page_bytes) {
        case 0:
            return store_page_0(offset, value);
        case 1:
            return store_queue(Direction::receive, offset % page_bytes, value);
        case 2:
            return store_queue(Direction::transmit, offset % page_bytes, value);
        default:
            if (std::uint32_t* word = own_rss_word(offset)) {
                *word = value;
                update_own_rss();
            }
    }
}

std::uint32_t Vf::load_page_0(std::uint32_t offset) {
    switch (offset) {
        case VFSTATUS::at():
            return VFSTATUS{}
                .with(VFSTATUS::link_up, link_up_)
                .with(VFSTATUS::virtual_functions, 1)
                .with(VFSTATUS::virtualization_active, 1)
                .with(VFSTATUS::master_enabled, config_.bus_master())
                .raw;
        case VFLINKS::at():
            return load_links();
        case VFFRTIMER::at():
            return static_cast<std::uint32_t>(
                std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()).count());
        case VFMAILBOX::at():
            return mailbox_.load_control();
        case VFPSRTYPE::at():
            return packet_split_;
        default:
            break;
    }
    if (offset >= VFMBMEM::at(0) && offset <= VFMBMEM::at(mailbox_words - 1))
        return mailbox_.load_word((offset - VFMBMEM::at(0)) / 4);
    return interrupts_.load(offset);
}

void Vf::store_page_0(std::uint32_t offset, std::uint32_t value) {
    if (is<VFCTRL>(offset)) {
        if (VFCTRL{{value}}.get(VFCTRL::reset) == 0) return;
        reset_queues_and_interrupts();
        pf_.forget_vf();
    } else if (is<VFMAILBOX>(offset)) {
        store_mailbox(value);
    } else if (is<VFPSRTYPE>(offset)) {
        packet_split_ = value;
    } else if (offset >= VFMBMEM::at(0) && offset <= VFMBMEM::at(mailbox_words - 1)) {
        rules_.expect(mailbox_.vf_owns(), Rule::mailbox_without_lock);
        mailbox_.store_word((offset - VFMBMEM::at(0)) / 4, value);
    } else {
        interrupts_.store(offset, value);
        if (is<VTEIMS>(offset))  // 82599 specification update, erratum 1
            rules_.expect((value & interrupts_.load(VTEIAC::at()) & ~interrupts_.load(VTEIAM::at())) == 0,
                          Rule::auto_clear);
    }
}

std::uint32_t Vf::load_links() {
    constexpr std::uint32_t ten_gigabit = 3;
    const bool latched = link_steady_ && pf_.policy().part != Part::x550;  // reserved there
    link_steady_ = link_up_;
    if (!link_up_) return 0;
    return VFLINKS{}
        .with(VFLINKS::up, 1)
        .with(VFLINKS::speed, ten_gigabit)
        .with(VFLINKS::negotiation_complete, 1)
        .with(VFLINKS::up_since_last_read, latched)
        .raw;
}

// The PF answers inside the access that asks: acknowledge and answer are there when the write returns.
void Vf::store_mailbox(std::uint32_t value) {
    const bool locked = mailbox_.vf_owns();
    const Mailbox::Signals signals = mailbox_.store_control(value);
    rules_.expect(locked || !signals.request, Rule::request_without_lock);
    rules_.expect(!mailbox_.vf_owns() || !(signals.request || signals.acknowledge), Rule::signal_with_lock);
    if (mailbox_.pf_in_reset()) return;
    if (signals.acknowledge && !pf_.clear_to_send()) post(std::array{MessageHead{}.with(MessageHead::failure, 1).raw});
    if (!signals.request || faults_.pf == Faults::PfVoice::silent) return;
    MailboxWords message;
    if (!mailbox_.take(message)) {
        ++messages_lost_;
        return;
    }
    interrupts_.raise_mailbox();
    const MessageHead request{{message[0]}};
    if (!pf_.answer(message)) return;
    faults_.distort(request, message);
    post(message);
}

void Vf::post(std::span<const std::uint32_t> message) {
    if (mailbox_.post(message))
        interrupts_.raise_mailbox();
    else
        ++messages_lost_;
}

void Vf::ping() {
    post(std::array{head_of(MessageType::pf_control).with(MessageHead::clear_to_send, pf_.clear_to_send()).raw});
}

std::uint32_t Vf::load_queue(const std::vector<QueueRegisters>& queues, std::uint32_t offset) const {
    const std::uint32_t queue = offset / queue_stride;
    return queue < queues.size() ? queues[queue].load(offset % queue_stride) : 0;
}

void Vf::store_queue(Direction direction, std::uint32_t offset, std::uint32_t value) {
    const std::uint32_t queue = offset / queue_stride;
    if (queue >= queue_slots) return;
    QueueRegisters& registers = direction == Direction::receive ? rx_[queue] : tx_[queue];
    const bool was_enabled = registers.enabled();
    if (rules_.active()) {
        RingWatch& watch = direction == Direction::receive ? rx_watch_[queue] : tx_watch_[queue];
        watch.store(offset % queue_stride, value,
                    {config_.bus_master(), pf_.started(), pf_.longest_frame_told(), now_});
    }
    registers.store(offset % queue_stride, value, queue < queues_);
    if (was_enabled && !registers.enabled()) spoiled_.forget(registers);
    if (direction == Direction::transmit && registers.enabled() && !was_enabled) engines_[queue]->enable();
}

std::uint32_t* Vf::own_rss_word(std::uint32_t offset) {
    if (pf_.policy().part != Part::x550 || offset % 4 != 0) return nullptr;
    if (is<VFMRQC>(offset)) return own_rss_words_.data();
    if (offset >= VFRSSRK::at(0) && offset <= VFRSSRK::at(VFRSSRK::count - 1))
        return &own_rss_words_[1 + (offset - VFRSSRK::at(0)) / 4];
    if (offset >= VFRETA::at(0) && offset <= VFRETA::at(VFRETA::count - 1))
        return &own_rss_words_[1 + VFRSSRK::count + (offset - VFRETA::at(0)) / 4];
    return nullptr;
}

void Vf::update_own_rss() {
    own_rss_.types = own_rss_words_[0];
    own_rss_.enabled = VFMRQC{{own_rss_words_[0]}}.get(VFMRQC::rss_enable) != 0;
    std::memcpy(own_rss_.key.data(), &own_rss_words_[1], own_rss_.key.size());
    std::memcpy(own_rss_.table.data(), &own_rss_words_[1 + VFRSSRK::count], own_rss_.table_entries);
}

void Vf::read_config(std::size_t offset, std::span<std::byte> to) const {
    config_.read(offset, to);
    if (faults_.removed) std::ranges::fill(to, std::byte{0xff});
}

void Vf::write_config(std::size_t offset, std::span<const std::byte> bytes) {
    if (faults_.removed) return;
    if (config_.write(offset, bytes)) function_level_reset();
}

// What each reset clears: 82599 specification update, clarification 5, and the reset table of the data sheet (4.2).
// Ring registers, thresholds and statistics survive; the driver must write them all.
void Vf::reset_queues_and_interrupts() {
    for (QueueRegisters& queue : rx_) {
        queue.disable();
        spoiled_.forget(queue);
    }
    for (QueueRegisters& queue : tx_) queue.disable();
    forget_programming();
    interrupts_.reset_registers();
}

void Vf::forget_programming() {
    for (RingWatch& watch : rx_watch_) watch.forget_programming();
    for (RingWatch& watch : tx_watch_) watch.forget_programming();
}

void Vf::unmapping(mem::Iova address, std::uint64_t bytes) noexcept {
    if (!rules_.strict()) return;
    for (RingWatch& watch : rx_watch_) watch.unmapping(address, bytes, now_);
    for (RingWatch& watch : tx_watch_) watch.unmapping(address, bytes, now_);
}

void Vf::function_level_reset() {
    reset_queues_and_interrupts();
    mailbox_.reset();
    config_.reset();
    pf_.forget_vf();
}

void Vf::detach() {
    function_level_reset();
    memory_.clear();
    interrupts_.remove(0, vectors);
    for (unsigned vector = 0; vector < vectors; ++vector) interrupts_.set_masked(vector, false);
}

RxOutcome Vf::receive(std::span<const std::byte> bytes, Origin origin) noexcept {
    if (!link_up_) return RxOutcome::link_down;
    if (!pf_.receive_enabled() || !config_.bus_master() || faults_.removed) return RxOutcome::rx_disabled;
    const FrameView frame(bytes);
    // LINUX: the PF programs MTU + 18 for the port, and tagged frames of the full MTU do arrive.
    if (bytes.size() + crc_bytes > pf_.longest_frame_bytes() + (frame.tagged ? tag_bytes : 0))
        return RxOutcome::too_long;
    switch (pf_.filter().check(frame)) {
        case ReceiveFilter::Verdict::wrong_address:
            return RxOutcome::filtered_mac;
        case ReceiveFilter::Verdict::wrong_vlan:
            return RxOutcome::filtered_vlan;
        case ReceiveFilter::Verdict::pass:
            break;
    }
    const Rss& rss = pf_.policy().part == Part::x550 ? own_rss_ : pf_.rss();
    const auto hash = rss.hash(frame);
    const unsigned index =
        hash ? rss.queue(hash->value, VFPSRTYPE{{packet_split_}}.get(VFPSRTYPE::rss_queues_log2)) : 0;
    QueueRegisters& queue = rx_[index];
    if (!queue.enabled()) return RxOutcome::rx_disabled;

    const auto control = queue.get<VFRXDCTL>();
    const bool limited = control.get(VFRXDCTL::longest_frame_enable) != 0 && pf_.policy().part != Part::i82599;
    const bool stripped = frame.tagged && control.get(VFRXDCTL::strip_vlan) != 0;
    if (limited && bytes.size() - (stripped ? tag_bytes : 0) > control.get(VFRXDCTL::longest_frame_bytes))
        return RxOutcome::too_long;

    const RxWrite write{
        .hash = hash,
        .verdict = checksum_verdict(frame, pf_.policy().part).with(RxDone::loopback, origin == Origin::function),
        .hide_tag = pf_.policy().port_vlan != 0,
        .faults = faults_.spoils_write_backs() ? &faults_ : nullptr,
        .spoiled = &spoiled_};
    if (rules_.strict()) {
        const std::uint32_t buffer_bytes = queue.get<VFSRRCTL>().get(VFSRRCTL::packet_buffer_kib) * 1024;
        const auto most = static_cast<std::uint32_t>(bytes.size()) / std::max(buffer_bytes, 1024u) + 1;
        rx_watch_[index].use(std::min(queue.owned(), most));
    }
    const RxOutcome outcome = faults_.rx_stall ? RxOutcome::stalled : write_frame(queue, memory_, frame, write);
    if (outcome == RxOutcome::dma_fault && rules_.broken(Rule::bad_dma)) queue.block();
    // MISSING: whether a frame counts as received whose DMA failed. It passed every filter, so here it does.
    if (outcome == RxOutcome::delivered || outcome == RxOutcome::stalled || outcome == RxOutcome::dma_fault) {
        const auto destination = frame.destination();
        const bool broadcast = std::ranges::all_of(destination, [](std::uint8_t byte) { return byte == 0xff; });
        statistics_.count_received(bytes.size(), (destination[0] & 1) != 0 && !broadcast);
        interrupts_.raise_rx(index);
    }
    return outcome;
}

bool Vf::allowed_to_send(std::span<const std::byte> bytes) noexcept {
    const FrameView frame(bytes);
    const bool checked = pf_.spoof_check();
    // With a port VLAN the VF may not tag at all, checked or not.
    const bool wrong_tag =
        frame.tagged && (pf_.policy().port_vlan != 0 || (checked && !pf_.filter().in_vlan(frame.vlan_id())));
    if (!wrong_tag && (!checked || pf_.filter().is_own(frame.source()))) return true;
    ++tx_counters_.spoofed;
    return false;
}

void Vf::count_sent(std::size_t bytes) noexcept {
    ++tx_counters_.sent;
    tx_counters_.sent_bytes += bytes;
    statistics_.count_sent(bytes);
}

void Vf::advance(Time now) noexcept {
    now_ = now;
    if (pf_back_ && now >= *pf_back_) {
        pf_back_.reset();
        mailbox_.end_pf_reset();
        ping();
    }
    if (const unsigned mbps = pf_.policy().rate_mbps; mbps != 0)
        for (RateLimit& rate : rates_) rate.advance(now, mbps);
    spoiled_.advance(now, memory_);
    if (faults_.link_flap.count() != 0 && now >= next_flap_) {
        next_flap_ = now + faults_.link_flap;
        set_link(!link_up_);
    }
    if (!faults_.removed) interrupts_.deliver(now);
}

std::optional<Time> Vf::due() const noexcept {
    std::optional<Time> earliest = interrupts_.due();
    const auto consider = [&](Time time) { earliest = earliest ? std::min(*earliest, time) : time; };
    if (pf_back_) consider(*pf_back_);
    if (faults_.link_flap.count() != 0) consider(next_flap_);
    if (const auto late = spoiled_.due()) consider(*late);
    const unsigned mbps = pf_.policy().rate_mbps;
    for (unsigned queue = 0; queue < queues_; ++queue)
        if (!rates_[queue].allows(mbps) && tx_[queue].enabled() && tx_[queue].owned() > 0)
            consider(rates_[queue].due(mbps));
    return earliest;
}

bool Vf::transmit_pending() const noexcept {
    return std::ranges::any_of(std::span(tx_).first(queues_),
                               [](const QueueRegisters& queue) { return queue.head() != queue.tail(); });
}

bool Vf::ready_to_receive() const noexcept {
    // With buffers in every enabled queue: enabling one and filling it are two steps of the driver.
    return link_up_ && pf_.receive_enabled() && enabled_queues(Direction::receive) > 0 &&
           std::ranges::all_of(rx_, [](const QueueRegisters& queue) { return !queue.enabled() || queue.owned() > 0; });
}

unsigned Vf::enabled_queues(Direction direction) const {
    return static_cast<unsigned>(
        std::ranges::count_if(direction == Direction::receive ? rx_ : tx_, &QueueRegisters::enabled));
}

}  // namespace vitrine::vf_sim
