#include "mem/locked_memory.hpp"

#include <functional>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

/// In a child without rights and with this limit, which end with it. True when `check` says so.
bool holds_with_limit(rlim_t bytes, const std::function<bool()>& check) {
    const pid_t child = ::fork();
    if (child == 0) {
        const rlimit limit{bytes, bytes};
        const bool ready = ::setrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
                           (::getuid() != 0 || (::setgid(65534) == 0 && ::setuid(65534) == 0));
        ::_exit(ready && check() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("a limit of locked memory holds to the byte, and the error names both numbers and the commands") {
    static constexpr std::uint64_t limit = 1 << 20;
    CHECK(holds_with_limit(limit, [] { return lock_limit() == limit; }));
    CHECK(holds_with_limit(limit, [] {
        require_lockable(limit);
        return true;
    }));
    CHECK(holds_with_limit(limit, [] {
        try {
            require_lockable(limit + 1);
        } catch (const std::system_error& error) {
            const std::string text = error.what();
            return text.find("1025 KiB needed, the limit is 1024 KiB") != text.npos &&
                   text.find("LimitMEMLOCK=1025K") != text.npos && text.find("ulimit -l 1025") != text.npos;
        }
        return false;
    }));
}
