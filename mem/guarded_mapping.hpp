#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "mem/mapping.hpp"

namespace vitrine::mem {

/// A mapping of a file that a peer may truncate, or punch a hole into that nothing can fill: where our next access
/// would end the process by SIGBUS, the whole mapping is replaced by private zeros and lost() becomes true. Whoever
/// uses it goes on with data that means nothing, and has to look now and then.
///
/// The first one installs a handler for SIGBUS; faults elsewhere end the process as before. Made and destroyed by one
/// thread at a time; used by any.
class GuardedMapping {
public:
    /// Throws std::system_error: the file cannot be mapped, or (ENOSPC) too many mappings are guarded.
    GuardedMapping(int descriptor, std::size_t bytes, std::uint64_t offset, Access access);
    GuardedMapping(GuardedMapping&& other) noexcept;
    GuardedMapping& operator=(GuardedMapping&& other) noexcept;
    ~GuardedMapping();

    std::byte* data() const { return mapping_.data(); }
    bool lost() const noexcept;

    /// What the signal handler looks at. A slot is free while `begin` is null.
    struct Slot {
        std::atomic<std::byte*> begin;
        std::atomic<std::size_t> bytes;
        std::atomic<bool> lost;
    };

private:
    Mapping mapping_;
    Slot* slot_ = nullptr;
};

}  // namespace vitrine::mem
