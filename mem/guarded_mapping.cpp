#include "mem/guarded_mapping.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <system_error>
#include <utility>

namespace vitrine::mem {
namespace {

/// As many as a vfio-user client may map, and the regions of a guest beside them.
constexpr std::size_t most_slots = 65536 + 1024;
std::array<GuardedMapping::Slot, most_slots> slots;  // no memory is spent before it is used
std::atomic<std::size_t> slots_in_use_below = 0;
static_assert(std::atomic<std::byte*>::is_always_lock_free && std::atomic<std::size_t>::is_always_lock_free,
              "read by a signal handler");

/// A fault in guarded memory puts zeros there and returns to the access; any other dies as it would have.
void on_bus_error(int, siginfo_t* fault, void*) {
    const auto* const address = static_cast<const std::byte*>(fault->si_addr);
    const std::size_t used = slots_in_use_below.load(std::memory_order_acquire);
    for (GuardedMapping::Slot& slot : std::span(slots).first(used)) {
        std::byte* const begin = slot.begin.load(std::memory_order_acquire);
        const std::size_t bytes = slot.bytes.load(std::memory_order_relaxed);
        if (begin == nullptr || address < begin || address >= begin + bytes) continue;
        const int saved = errno;
        const void* const zeros = ::mmap(begin, bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        errno = saved;
        if (zeros == MAP_FAILED) break;
        slot.lost.store(true, std::memory_order_release);
        return;
    }
    std::signal(SIGBUS, SIG_DFL);
    if (fault->si_code <= 0) ::raise(SIGBUS);  // somebody's kill(): there is no access that would fault again
}

void install_handler() {
    static const bool installed = [] {
        struct sigaction action{};
        action.sa_sigaction = on_bus_error;
        action.sa_flags = SA_SIGINFO;
        return ::sigaction(SIGBUS, &action, nullptr) == 0;
    }();
    if (!installed) throw std::system_error(errno, std::generic_category(), "handle SIGBUS");
}

GuardedMapping::Slot& free_slot() {
    // Round robin: a search from the first would make a table of thousands slow to fill.
    static std::size_t next = 0;
    for (std::size_t tries = 0; tries < slots.size(); ++tries) {
        const std::size_t index = next++ % slots.size();
        if (slots[index].begin.load(std::memory_order_relaxed) != nullptr) continue;
        if (index >= slots_in_use_below.load(std::memory_order_relaxed))
            slots_in_use_below.store(index + 1, std::memory_order_release);
        return slots[index];
    }
    throw std::system_error(ENOSPC, std::generic_category(), "too many guarded mappings");
}

}  // namespace

GuardedMapping::GuardedMapping(int descriptor, std::size_t bytes, std::uint64_t offset, Access access)
    : mapping_(descriptor, bytes, offset, access) {
    install_handler();
    slot_ = &free_slot();
    slot_->lost.store(false, std::memory_order_relaxed);
    slot_->bytes.store(bytes, std::memory_order_relaxed);
    slot_->begin.store(mapping_.data(), std::memory_order_release);
}

GuardedMapping::GuardedMapping(GuardedMapping&& other) noexcept
    : mapping_(std::move(other.mapping_)), slot_(std::exchange(other.slot_, nullptr)) {}

GuardedMapping& GuardedMapping::operator=(GuardedMapping&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(slot_, other.slot_);
    return *this;
}

GuardedMapping::~GuardedMapping() {
    if (slot_ != nullptr) slot_->begin.store(nullptr, std::memory_order_release);
}

bool GuardedMapping::lost() const noexcept {
    return slot_ != nullptr && slot_->lost.load(std::memory_order_acquire);
}

}  // namespace vitrine::mem
