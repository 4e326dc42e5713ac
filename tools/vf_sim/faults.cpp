#include "tools/vf_sim/faults.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <stdexcept>

namespace vitrine::vf_sim {
namespace {

using driver::MessageHead;
using driver::MessageType;
using driver::RxDone;
using driver::RxInfo;

constexpr unsigned longest_ms = 60'000;

using Change = std::function<void(Faults&)>;

struct Kind {
    std::string_view name, arguments;
    Change (*parse)(Words& words);
};

struct Field {
    std::string_view name;
    bool done;  ///< in the second word
    std::uint64_t mask;
};

constexpr std::array fields{
    Field{"rss-type", false, RxInfo::rss_type.mask},
    Field{"packet-type", false, 0x1fff0},
    Field{"header-length", false, 0x7fe0'0000},
    Field{"rss-hash", false, RxInfo::rss_hash.mask},
    Field{"done", true, RxDone::done.mask},
    Field{"end-of-packet", true, RxDone::end_of_packet.mask},
    Field{"vlan", true, RxDone::vlan.mask},
    Field{"udp-checked", true, RxDone::udp_checked.mask},
    Field{"l4-checked", true, RxDone::l4_checked.mask},
    Field{"ip-checked", true, RxDone::ip_checked.mask},
    Field{"loopback", true, RxDone::loopback.mask},
    Field{"mac-error", true, RxDone::mac_error.mask},
    Field{"l4-error", true, RxDone::l4_error.mask},
    Field{"ip-error", true, RxDone::ip_error.mask},
    Field{"length", true, RxDone::length_bytes.mask},
    Field{"vlan-tag", true, RxDone::vlan_tag.mask},
};

Change lie(Words& words) {
    const std::string name = words.take();
    const auto* field = std::ranges::find(fields, name, &Field::name);
    if (field == fields.end()) {
        std::string known;
        for (const Field& one : fields) known += ' ' + std::string(one.name);
        throw std::invalid_argument("no field '" + name + "'; there are" + known);
    }
    const unsigned width = static_cast<unsigned>(std::popcount(field->mask));
    const std::uint64_t value = words.number(0, width >= 32 ? ~0u : (1u << width) - 1);
    return [=, bits = value << std::countr_zero(field->mask)](Faults& faults) {
        std::uint64_t& lie = field->done ? faults.done_lie : faults.info_lie;
        (field->done ? faults.done_mask : faults.info_mask) |= field->mask;
        lie = (lie & ~field->mask) | bits;
    };
}

Change late(Words& words, bool reorder) {
    return [=, delay = std::chrono::milliseconds(words.number(1, longest_ms))](Faults& faults) {
        faults.rx_delay = delay;
        faults.rx_reorder = reorder;
    };
}

template <auto member, auto value = true>
Change set(Words&) {
    return [](Faults& faults) { faults.*member = value; };
}

const std::array kinds{
    Kind{"clear", "", [](Words&) -> Change { return [](Faults& faults) { faults = {}; }; }},
    Kind{"mailbox-silent", "", set<&Faults::pf, Faults::PfVoice::silent>},
    Kind{"mailbox-nack", "", set<&Faults::pf, Faults::PfVoice::refuses>},
    Kind{"mailbox-version", "", set<&Faults::pf, Faults::PfVoice::lies_about_version>},
    Kind{"rsti", "", set<&Faults::in_reset>},
    Kind{"link-flap", "MILLISECONDS",
         [](Words& words) -> Change {
             return [period = std::chrono::milliseconds(words.number(1, longest_ms))](Faults& faults) {
                 faults.link_flap = period;
             };
         }},
    Kind{"removed", "", set<&Faults::removed>},
    Kind{"dma", "", set<&Faults::dma>},
    Kind{"tx-stuck", "", set<&Faults::tx_stuck>},
    Kind{"tx-lost", "", set<&Faults::tx_lost>},
    Kind{"rx-stall", "", set<&Faults::rx_stall>},
    Kind{"rx-delay", "MILLISECONDS", [](Words& words) { return late(words, false); }},
    Kind{"rx-reorder", "MILLISECONDS", [](Words& words) { return late(words, true); }},
    Kind{"rx-duplicate", "", set<&Faults::rx_duplicate>},
    Kind{"lie", "FIELD VALUE", lie},
};

}  // namespace

std::function<void(Faults&)> Faults::parse(Words& words) {
    const std::string name = words.take();
    const auto* kind = std::ranges::find(kinds, name, &Kind::name);
    if (kind == kinds.end()) throw std::invalid_argument("no fault '" + name + "'; there are" + names());
    return kind->parse(words);
}

std::string Faults::names() {
    std::string text;
    for (const Kind& kind : kinds) {
        text += ' ' + std::string(kind.name);
        if (!kind.arguments.empty()) text += ' ' + std::string(kind.arguments);
        if (&kind != &kinds.back()) text += ',';
    }
    return text;
}

void Faults::distort(MessageHead request, MailboxWords& answer) const {
    const auto is = [&](MessageType type) {
        return request.get(MessageHead::type) == static_cast<std::uint32_t>(type);
    };
    constexpr std::uint32_t no_version = 0x77;
    if (pf == PfVoice::refuses) {
        answer[0] = MessageHead{{answer[0]}}.with(MessageHead::success, 0).with(MessageHead::failure, 1).raw;
        if (is(MessageType::reset)) answer[1] = answer[2] = 0;
    }
    if (pf == PfVoice::lies_about_version && is(MessageType::negotiate_api)) answer[1] = no_version;
}

void SpoiledWriteBacks::write(const Faults& faults, const QueueRegisters& queue, mem::Iova slot, RxInfo info,
                              RxDone done, DmaMap& memory) noexcept {
    info.raw = (info.raw & ~faults.info_mask) | faults.info_lie;
    done.raw = (done.raw & ~faults.done_mask) | faults.done_lie;
    odd_ = !odd_;
    const bool late = faults.rx_delay.count() != 0 && (odd_ || !faults.rx_reorder);
    late_.push_back({now_ + (late ? faults.rx_delay : std::chrono::milliseconds(0)), &queue, slot, info, done});
    if (!late) advance(now_, memory);
}

void SpoiledWriteBacks::advance(Time now, DmaMap& memory) noexcept {
    now_ = now;
    std::erase_if(late_, [&](const Late& write) {
        if (now < write.due) return false;
        if (std::byte* at = memory.at(write.slot, sizeof(driver::RxDescriptor), DmaMap::Access::write)) {
            auto* slot = reinterpret_cast<driver::RxDescriptor*>(at);
            std::atomic_ref(slot->page_iova).store(write.info.raw, std::memory_order_relaxed);
            std::atomic_ref(slot->done).store(write.done.raw, std::memory_order_release);
        }
        return true;
    });
}

void SpoiledWriteBacks::forget(const QueueRegisters& queue) noexcept {
    std::erase_if(late_, [&](const Late& write) { return write.queue == &queue; });
}

std::optional<Time> SpoiledWriteBacks::due() const noexcept {
    const auto earliest = std::ranges::min_element(late_, {}, &Late::due);
    return earliest == late_.end() ? std::nullopt : std::optional(earliest->due);
}

}  // namespace vitrine::vf_sim
