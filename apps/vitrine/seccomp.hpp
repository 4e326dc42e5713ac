#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace vitrine::apps {

/// What happens at a system call that is on no list.
enum class SeccompMode {
    kill,    ///< the process ends, as by SIGSYS; the log names the call
    refuse,  ///< the call fails with EPERM; the log names it once
    log,     ///< it goes on; the kernel's audit log names it
    off,
};

/// By the names of --seccomp: kill, errno, log, off.
inline constexpr std::array<std::string_view, 4> seccomp_mode_names{"kill", "errno", "log", "off"};
inline std::string_view name_of(SeccompMode mode) {
    return seccomp_mode_names[static_cast<std::size_t>(mode)];
}

/// A system call that is allowed: if its argument, masked, has the value; by default always.
struct AllowedCall {
    int number;
    unsigned argument = 0;
    std::uint64_t mask = 0;
    std::uint64_t value = 0;
    bool to_ourselves = false;     ///< and its first argument is our process
    bool pretend_missing = false;  ///< it fails with ENOSYS instead
};

/// From here on the calling thread, and the threads that it starts, may make these system calls and no others. A
/// second list only takes away. `thread` is the name that the log uses; it must outlive the thread.
/// Throws std::system_error.
void allow_only(SeccompMode mode, std::span<const AllowedCall> calls, const char* thread);

}  // namespace vitrine::apps
