#include "mem/locked_memory.hpp"

#include <array>
#include <cerrno>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

namespace vitrine::mem {
namespace {

bool may_lock_anything() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) return false;
    return (sets[CAP_IPC_LOCK / 32].effective >> (CAP_IPC_LOCK % 32) & 1) != 0;
}

std::string kibibytes(std::uint64_t bytes) {
    return std::to_string((bytes + 1023) / 1024);
}

}  // namespace

std::optional<std::uint64_t> lock_limit() {
    rlimit limit{};
    if (may_lock_anything() || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return std::nullopt;
    return limit.rlim_cur;
}

std::string lock_limit_advice(std::uint64_t needed_bytes) {
    const auto limit = lock_limit();
    return "locked memory: " + kibibytes(needed_bytes) + " KiB needed, the limit is " +
           (limit ? kibibytes(*limit) + " KiB" : "none") + " (LimitMEMLOCK=" + kibibytes(needed_bytes) +
           "K in the unit, or ulimit -l " + kibibytes(needed_bytes) + ")";
}

void require_lockable(std::uint64_t needed_bytes) {
    if (const auto limit = lock_limit(); limit && *limit < needed_bytes)
        throw std::system_error(ENOMEM, std::generic_category(), lock_limit_advice(needed_bytes));
}

}  // namespace vitrine::mem
