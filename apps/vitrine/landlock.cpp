#include "apps/vitrine/landlock.hpp"

#include <cstdint>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mem/file_descriptor.hpp"

namespace vitrine::apps {
namespace {

// Newer than Debian 12's <linux/landlock.h>.
constexpr std::uint64_t control_device = 1u << 15;
constexpr std::uint64_t bind_or_connect_tcp = 3;
constexpr std::uint64_t reach_abstract_sockets = 1;

struct Ruleset {
    std::uint64_t files;
    std::uint64_t network;  // version 4
    std::uint64_t scopes;   // version 6
};

/// What the version knows of what can be done to files.
std::uint64_t known_file_rights(int version) {
    const unsigned bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;
    return (std::uint64_t{1} << bits) - 1;
}

std::uint64_t rights_of(FileRight right, bool directory) {
    switch (right) {
        case FileRight::read:
            return directory ? LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR
                             : LANDLOCK_ACCESS_FS_READ_FILE;
        case FileRight::use_device:
            return LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | control_device;
        case FileRight::remove:
            return LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR;
    }
    return 0;
}

void add(int ruleset, const AllowedPath& allowed, std::uint64_t known) {
    const mem::FileDescriptor place(::open(allowed.path.c_str(), O_PATH | O_CLOEXEC));
    struct stat status{};
    if (!place || ::fstat(place.get(), &status) != 0) return;  // not on this machine: nothing to allow
    const landlock_path_beneath_attr rule{.allowed_access = rights_of(allowed.right, S_ISDIR(status.st_mode)) & known,
                                          .parent_fd = place.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        mem::throw_errno("Landlock: " + allowed.path);
}

}  // namespace

int allow_only_files(std::span<const AllowedPath> paths) {
    const auto version =
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
    if (version <= 0) return 0;  // compiled out, or not among the kernel's active security modules
    const std::uint64_t known = known_file_rights(version);
    const Ruleset all{.files = known, .network = bind_or_connect_tcp, .scopes = reach_abstract_sockets};
    const std::size_t bytes = version >= 6 ? sizeof(all) : version >= 4 ? 16 : 8;
    const mem::FileDescriptor ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &all, bytes, 0)));
    if (!ruleset) mem::throw_errno("Landlock");
    for (const AllowedPath& allowed : paths) add(ruleset.get(), allowed, known);
    if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) mem::throw_errno("Landlock");
    return version;
}

}  // namespace vitrine::apps
