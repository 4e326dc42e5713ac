#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace vitrine::mem {

/// How many bytes this process may lock or have pinned for DMA (RLIMIT_MEMLOCK); nothing: as many as it likes, since it
/// has CAP_IPC_LOCK or no limit.
std::optional<std::uint64_t> lock_limit();

/// What to tell the operator of a limit that is too low: both numbers, and the commands that raise it.
std::string lock_limit_advice(std::uint64_t needed_bytes);

/// Throws std::system_error (ENOMEM) with that advice when `needed_bytes` are more than the limit.
void require_lockable(std::uint64_t needed_bytes);

}  // namespace vitrine::mem
