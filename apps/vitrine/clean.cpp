#include "apps/vitrine/clean.hpp"

#include <filesystem>
#include <pwd.h>
#include <stdexcept>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "mem/packet_region.hpp"
#include "mem/socket.hpp"

namespace vitrine::apps {
namespace {

namespace fs = std::filesystem;

/// As root we would follow names in directories of others.
void check_owner(const Options& options, const std::string& path) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0 || status.st_uid == ::geteuid()) return;
    const passwd* const entry = ::getpwuid(status.st_uid);
    const std::string owner = entry != nullptr ? entry->pw_name : std::to_string(status.st_uid);
    throw std::runtime_error(path + " belongs to " + owner + ": runuser -u " + owner + " -- vitrine clean " +
                             options.name);
}

bool somebody_listens(const std::string& path) {
    try {
        mem::connect_unix(path);
    } catch (const std::system_error& error) {
        return error.code() == std::errc::resource_unavailable_try_again;
    }
    return true;
}

/// What a process of this name has while it runs: until we end none can start.
mem::FileDescriptor take_name(const Options& options, const std::string& path) {
    try {
        return mem::listen_unix(path);
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::address_in_use) throw;
        throw std::runtime_error(options.name + " runs (" + path + " answers): stop it first");
    }
}

}  // namespace

void clean(const Options& options) {
    check_owner(options, options.run_directory);
    check_owner(options, options.pages_path);
    const std::string control = options.run_directory + "/control.sock";
    mem::FileDescriptor name;
    if (fs::is_directory(options.run_directory)) name = take_name(options, control);
    mem::PacketRegion::remove(options.pages_path, options.run_directory + "/ledger");
    const std::string& socket = options.front_end.socket_path;
    if (fs::is_socket(socket) && !somebody_listens(socket)) fs::remove(socket);
    if (name) fs::remove(control);
    ::rmdir(options.run_directory.c_str());  // unless somebody keeps something else there
}

}  // namespace vitrine::apps
