#include "mem/page_ledger.hpp"

namespace vitrine::mem {

static_assert(PageLedger::most_queues < 256, "a page's state is one byte: ours, or the queue that it is lent to");

PageLedger::PageLedger(std::span<std::byte> memory, const Identity& identity)
    : header_(reinterpret_cast<Header*>(memory.data())),
      queues_(reinterpret_cast<Queue*>(memory.data() + sizeof(Header)), identity.queues),
      states_(reinterpret_cast<std::uint8_t*>(memory.data() + sizeof(Header) + queues_.size_bytes()),
              identity.page_count) {}

std::optional<PageLedger> PageLedger::in(std::span<std::byte> memory) {
    if (memory.size() < sizeof(Header)) return std::nullopt;
    const auto* header = reinterpret_cast<const Header*>(memory.data());
    const Identity& identity = header->identity;
    if (header->magic != magic || identity.queues > most_queues || identity.page_count > most_pages ||
        memory.size() != bytes_for(identity.page_count, identity.queues))
        return std::nullopt;
    return PageLedger(memory, identity);
}

PageLedger PageLedger::make(std::span<std::byte> memory, const Identity& identity) {
    assert(identity.queues <= most_queues && identity.page_count <= most_pages);
    assert(memory.size() == bytes_for(identity.page_count, identity.queues));
    PageLedger ledger(memory, identity);
    ledger.header_->identity = identity;
    store(ledger.header_->magic, magic);
    return ledger;
}

void PageLedger::spoil(std::span<std::byte> memory) {
    if (memory.size() >= sizeof(Header)) store(reinterpret_cast<Header*>(memory.data())->magic, std::uint64_t{0});
}

}  // namespace vitrine::mem
