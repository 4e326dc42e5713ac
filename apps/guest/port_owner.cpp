#include "apps/guest/port_owner.hpp"

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fcntl.h>
#include <filesystem>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apps/guest/serve.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {
namespace {

/// In the owner's process. It must not outlive the one that started it, nor write between its lines.
int own(const Options& options, const std::atomic<bool>& stop, pid_t parent, int ready) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) return 1;
    try {
        const mem::FileDescriptor nowhere = mem::open("/dev/null", O_WRONLY);
        ::dup2(nowhere.get(), STDOUT_FILENO);
        return serve(options, stop, [ready] {
            const char byte = 1;
            if (::write(ready, &byte, 1) != 1) throw std::runtime_error("nobody waits for the port");
        });
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vitrine-guest: %s\n", error.what());
        return 1;
    }
}

}  // namespace

PortOwner::PortOwner(Options options, const std::atomic<bool>& stop)
    : directory_((std::filesystem::temp_directory_path() / "vitrine-perf-XXXXXX").string()) {
    if (::mkdtemp(directory_.data()) == nullptr) mem::throw_errno("make " + directory_);
    door_path_ = options.door_path = directory_ + "/door";
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) mem::throw_errno("pipe");
    const mem::FileDescriptor reader(ends[0]);
    mem::FileDescriptor writer(ends[1]);
    const pid_t parent = ::getpid();
    process_ = ::fork();
    if (process_ < 0) mem::throw_errno("fork");
    if (process_ == 0) ::_exit(own(options, stop, parent, writer.get()));
    writer.close();
    char byte = 0;
    if (::read(reader.get(), &byte, 1) == 1) return;
    end();
    throw std::runtime_error("no port to read from");
}

PortOwner::~PortOwner() {
    end();
}

void PortOwner::end() noexcept {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

}  // namespace vitrine::guest
