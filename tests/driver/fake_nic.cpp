#include "tests/driver/fake_nic.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace vitrine::tests {

using namespace driver;

namespace {

constexpr std::uint32_t success = MessageHead::success.mask;
constexpr std::uint32_t failure = MessageHead::failure.mask;
constexpr std::uint32_t clear_to_send_bit = MessageHead::clear_to_send.mask;

std::string hex(std::uint32_t value) {
    std::string text(8, '0');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    return text;
}

}  // namespace

std::optional<MailboxWords> FakePf::handle(MailboxWords words) {
    requests.push_back(words);
    if (silent) return std::nullopt;
    const auto type = static_cast<MessageType>(words[0] & 0xffff);
    if (type == MessageType::reset) {
        clear_to_send = true;
        api = 0;
        words[0] = std::to_underlying(type) | (mac ? success : failure);
        words[1] = words[2] = 0;
        if (mac) {
            for (unsigned i = 0; i < 6; ++i) words[1 + i / 4] |= std::uint32_t{(*mac)[i]} << (i % 4 * 8);
        }
        words[3] = multicast_filter;
        return words;
    }
    if (!clear_to_send) {
        words[0] |= failure;
        return words;
    }
    bool good = true;
    const auto at_least = [&](MailboxApi needed) { return api >= std::to_underlying(needed); };
    switch (type) {
        case MessageType::negotiate_api:
            good = words[1] <= std::to_underlying(newest_api) && words[1] != 1;
            if (good) api = words[1];
            break;
        case MessageType::set_mac_address:
            good = takes_mac_address;
            break;
        case MessageType::set_longest_frame:
            good = words[1] <= longest_frame_bytes;
            break;
        case MessageType::set_vlan:
            good = words[1] != refused_vlan;
            break;
        case MessageType::get_queues:
            good = at_least(MailboxApi::v1_1);
            words[1] = tx_queues;
            words[2] = rx_queues;
            break;
        case MessageType::update_receive_mode:
            good = at_least(MailboxApi::v1_2) && (words[1] < 3 || (at_least(MailboxApi::v1_3) && promiscuous_works));
            if (!trusts) words[1] = std::min(words[1], 1u);
            break;
        case MessageType::get_link_state:
            good = at_least(MailboxApi::v1_2);
            words[1] = link_enabled;
            break;
        case MessageType::set_multicast:
            break;
        default:
            good = false;
    }
    words[0] |= clear_to_send_bit | (good ? success : failure);
    return words;
}

std::size_t FakePf::count(MessageType type) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        requests, [&](const MailboxWords& words) { return (words[0] & 0xffff) == std::to_underlying(type); }));
}

const MailboxWords& FakePf::last(MessageType type) const {
    for (auto words = requests.rbegin(); words != requests.rend(); ++words)
        if (((*words)[0] & 0xffff) == std::to_underlying(type)) return *words;
    throw std::out_of_range("no such request");
}

/// Silicon promises nothing about most registers at the start, so they hold rubbish here. No queue is enabled.
FakeNic::FakeNic() {
    for (std::uint32_t offset = 0x1000; offset < 0x2200; offset += 4) registers_[offset] = 0x5a5a'5a40;
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        registers_[VFRXDCTL::at(queue)] &= ~VFRXDCTL::enable.mask;
        registers_[VFTXDCTL::at(queue)] &= ~VFTXDCTL::enable.mask;
    }
    registers_[VFPSRTYPE::at()] = 0xe000'0000;
    registers_[VFSTATUS::at()] = 0x80;
    registers_[VFLINKS::at()] = 0x7000'0000;
}

void FakeNic::pf_sends(std::uint32_t word) {
    registers_[VFMBMEM::at(0)] = word;
    registers_[VFMAILBOX::at()] |= VFMAILBOX::pf_status.mask;
}

std::uint32_t FakeNic::load(std::uint32_t offset) {
    if (gone) return all_ones;
    if (auto& script = scripted_loads[offset]; !script.empty()) {
        const std::uint32_t value = script.front();
        script.erase(script.begin());
        return value;
    }
    if (offset == VFMAILBOX::at()) return load_mailbox();
    if (offset == VTEICR::at()) return std::exchange(registers_[offset], 0);
    if (const auto pending = pending_enables_.find(offset); pending != pending_enables_.end() && !stuck) {
        if (pending->second.loads_left-- == 0) {
            const std::uint32_t bit = VFRXDCTL::enable.mask;
            registers_[offset] = pending->second.wanted ? registers_[offset] | bit : registers_[offset] & ~bit;
            pending_enables_.erase(pending);
        }
    }
    return registers_[offset];
}

std::uint32_t FakeNic::load_mailbox() {
    std::uint32_t& mailbox = registers_[VFMAILBOX::at()];
    if (reset_loads_left_ > 0 && --reset_loads_left_ == 0) {
        mailbox &= ~VFMAILBOX::in_reset.mask;
        mailbox |= VFMAILBOX::reset_done.mask;
    }
    const std::uint32_t value = mailbox;
    mailbox &= ~VFMAILBOX::read_to_clear;
    return value;
}

void FakeNic::store(std::uint32_t offset, std::uint32_t value) {
    if (gone) return;
    if (offset == VFMAILBOX::at()) return store_mailbox(VFMAILBOX{{value}});
    if (offset == VFCTRL::at() && (value & VFCTRL::reset.mask) != 0) return reset();
    if (offset >= VFMBMEM::at(0) && offset <= VFMBMEM::at(mailbox_words - 1)) {
        if (!VFMAILBOX{{registers_[VFMAILBOX::at()]}}.get(VFMAILBOX::vf_owns))
            violations.push_back("mailbox memory written without owning it");
        registers_[offset] = value;
        return;
    }
    if (offset >= 0x1000 && offset < 0x3000) return store_queue(offset, value);
    if (offset == VTEIMC::at()) {
        registers_[VTEIMS::at()] &= ~value;
        return;
    }
    if (offset == VTEIMS::at()) value |= registers_[offset];
    registers_[offset] = value;
}

void FakeNic::store_mailbox(VFMAILBOX value) {
    VFMAILBOX mailbox{{registers_[VFMAILBOX::at()]}};
    const bool owned = mailbox.get(VFMAILBOX::vf_owns) != 0;
    if ((value.get(VFMAILBOX::request) || value.get(VFMAILBOX::acknowledge)) && !owned)
        violations.push_back("REQ or ACK without owning the mailbox");
    acknowledges += value.get(VFMAILBOX::acknowledge);
    const bool granted = value.get(VFMAILBOX::vf_owns) && !pf_holds_mailbox;
    registers_[VFMAILBOX::at()] = mailbox.with(VFMAILBOX::vf_owns, granted).raw;
    if (!value.get(VFMAILBOX::request)) return;
    if (granted) violations.push_back("REQ keeps VFU: the PF tries once and gives up");

    MailboxWords words;
    for (unsigned word = 0; word < mailbox_words; ++word) words[word] = registers_[VFMBMEM::at(word)];
    history.push_back("message " + std::to_string(words[0] & 0xffff));
    const auto reply = pf.handle(words);
    if (!reply) return;
    for (unsigned word = 0; word < mailbox_words; ++word) registers_[VFMBMEM::at(word)] = (*reply)[word];
    registers_[VFMAILBOX::at()] |= VFMAILBOX::pf_status.mask | VFMAILBOX::pf_acknowledge.mask;
}

void FakeNic::store_queue(std::uint32_t offset, std::uint32_t value) {
    const unsigned queue = offset % 0x1000 / queue_stride;
    const bool transmit = offset >= 0x2000;
    const std::uint32_t control = transmit ? VFTXDCTL::at(queue) : VFRXDCTL::at(queue);
    if (queue >= queue_slots) {
        violations.push_back("store beyond the queues: " + hex(offset));
        return;
    }
    if (offset == control) {
        const bool wanted = (value & VFRXDCTL::enable.mask) != 0;
        if (wanted && !enabled(control)) {
            const std::uint32_t length = registers_[transmit ? VFTDLEN::at(queue) : VFRDLEN::at(queue)];
            const std::uint32_t low = registers_[transmit ? VFTDBAL::at(queue) : VFRDBAL::at(queue)];
            if (length == 0 || length % 128 != 0 || low % 128 != 0) violations.push_back("bad ring enabled");
            if (!transmit) {
                const VFSRRCTL buffers{{registers_[VFSRRCTL::at(queue)]}};
                if (buffers.get(VFSRRCTL::packet_buffer_kib) == 0 || buffers.get(VFSRRCTL::packet_buffer_kib) > 16)
                    violations.push_back("BSIZEPACKET out of range");
                if (buffers.get(VFSRRCTL::descriptor_type) != 1) violations.push_back("split or legacy descriptors");
            }
            history.push_back(std::string(transmit ? "tx" : "rx") + " enable " + std::to_string(queue));
        }
        const bool current = enabled(control);
        registers_[offset] = (value & ~VFRXDCTL::enable.mask) | (current ? VFRXDCTL::enable.mask : 0);
        if (transmit) registers_[offset] &= ~VFTXDCTL::flush.mask;
        pending_enables_.erase(offset);
        if (wanted != current) pending_enables_[offset] = {wanted, loads_until_ready};
        return;
    }
    const std::uint32_t within = offset % queue_stride;
    if (enabled(control) && within != VFRDT::at(0) % queue_stride)
        violations.push_back("register of an enabled queue written: " + hex(offset));
    if (within == VFRDT::at(0) % queue_stride && value != 0) {
        const std::uint32_t length = registers_[transmit ? VFTDLEN::at(queue) : VFRDLEN::at(queue)];
        if (!enabled(control)) violations.push_back("tail written before ENABLE reads 1");
        if (value >= length / 16) violations.push_back("tail past the ring");
    }
    registers_[offset] = value;
}

/// Clears enables and interrupts; leaves the other queue registers as they are (specification update, clarification 5).
void FakeNic::reset() {
    history.push_back("reset");
    const auto runs = [&](std::uint32_t control) {
        const auto pending = pending_enables_.find(control);
        return pending != pending_enables_.end() ? pending->second.wanted : enabled(control);
    };
    for (unsigned queue = 0; queue < queue_slots; ++queue)
        if (runs(VFRXDCTL::at(queue)) || runs(VFTXDCTL::at(queue))) violations.push_back("reset while a queue runs");
    if (registers_[VTEIMS::at()] != 0) violations.push_back("reset with interrupts on");
    for (unsigned queue = 0; queue < queue_slots; ++queue) {
        registers_[VFRXDCTL::at(queue)] &= ~VFRXDCTL::enable.mask;
        registers_[VFTXDCTL::at(queue)] &= ~VFTXDCTL::enable.mask;
    }
    pending_enables_.clear();
    for (const std::uint32_t offset : {VTEIMS::at(), VTEIAC::at(), VTEIAM::at(), VTIVAR_MISC::at(), VTEICR::at()})
        registers_[offset] = 0;
    for (unsigned n = 0; n < VTIVAR::count; ++n) registers_[VTIVAR::at(n)] = 0;
    pf.clear_to_send = false;
    registers_[VFMAILBOX::at()] |= VFMAILBOX::in_reset.mask;
    reset_loads_left_ = loads_until_reset_done;
}

}  // namespace vitrine::tests
