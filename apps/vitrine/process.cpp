#include "apps/vitrine/process.hpp"

#include <algorithm>
#include <cap-ng.h>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mem/file_descriptor.hpp"

namespace vitrine::apps {
namespace {

/// For 509 regions of guest memory, four eventfds a ring, the VF, clients of the control socket, and some to spare.
constexpr rlim_t most_open_files = 1024;

void close_inherited(int kept) {
    // A standard file that is closed would be the number of the next one opened: our log would go into the VF.
    while (true) {
        mem::FileDescriptor null = mem::open("/dev/null", O_RDWR);
        if (null.get() > STDERR_FILENO) break;
        ::fcntl(null.release(), F_SETFD, 0);
    }
    const unsigned first = STDERR_FILENO + 1;
    if (kept < 0) {
        if (::close_range(first, ~0u, 0) != 0) mem::throw_errno("close inherited files");
        return;
    }
    const auto number = static_cast<unsigned>(kept);
    if (number > first && ::close_range(first, number - 1, 0) != 0) mem::throw_errno("close inherited files");
    if (::close_range(number + 1, ~0u, 0) != 0) mem::throw_errno("close inherited files");
}

/// In place as well, or a secret in it would still be in our memory.
void empty_environment() {
    for (char** variable = environ; *variable != nullptr; ++variable)
        ::explicit_bzero(*variable, std::strlen(*variable));
    ::clearenv();
}

void set_limit(__rlimit_resource resource, rlimit limit, const char* name) {
    if (::setrlimit(resource, &limit) != 0) mem::throw_errno(name);
}

void limit_resources() {
    set_limit(RLIMIT_CORE, {0, 0}, "RLIMIT_CORE");
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    const rlim_t most = std::min(files.rlim_cur, most_open_files);
    set_limit(RLIMIT_NOFILE, {most, most}, "RLIMIT_NOFILE");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) mem::throw_errno("PR_SET_DUMPABLE");
}

void clear_capabilities() {
    // The bounding set is for who may change it; without a capability and with no_new_privs it says nothing more.
    const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
    if (may_bound && capng_lock() != 0) throw std::runtime_error("capabilities: cannot be locked");
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_apply(may_bound ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS) != 0)
        throw std::runtime_error("capabilities: cannot be dropped");
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) mem::throw_errno("ambient capabilities");
}

void drop_capabilities() {
    if (capng_get_caps_process() != 0) throw std::runtime_error("capabilities: cannot be read");
    // Who may lock any amount of memory now shall still be able to when the capability for it is gone.
    if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE) != 0) {
        const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
        ::setrlimit(RLIMIT_MEMLOCK, &unlimited);  // refused inside a user namespace: then the limit stays
    }
    // A unit that gives none may well forbid to change them, too.
    if (capng_have_permitted_capabilities() != CAPNG_NONE) clear_capabilities();
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) mem::throw_errno("PR_SET_NO_NEW_PRIVS");
}

}  // namespace

void give_up_belongings(int kept) {
    if (kept >= 0 && ::fcntl(kept, F_GETFD) < 0) mem::throw_errno("--fd " + std::to_string(kept) + ": not inherited");
    close_inherited(kept);
    empty_environment();
    limit_resources();
    drop_capabilities();
}

void refuse_root() {
    if (::getuid() != 0 && ::geteuid() != 0) return;
    throw std::runtime_error(
        "refuses to run as root: give it a user of its own, as vitrine@.service does (--allow-root: run all the same)");
}

}  // namespace vitrine::apps
