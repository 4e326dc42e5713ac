#include "mem/file_descriptor.hpp"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <system_error>
#include <unistd.h>

namespace vitrine::mem {

void throw_errno(const std::string& attempt) {
    throw std::system_error(errno, std::generic_category(), attempt);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
        close();
        number_ = other.release();
    }
    return *this;
}

void FileDescriptor::close() noexcept {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
}

FileDescriptor open(const std::string& path, int flags, unsigned mode) {
    FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC, mode));
    if (!file) throw_errno("open " + path);
    return file;
}

FileDescriptor duplicate(int descriptor) {
    FileDescriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 3));
    if (!copy) throw_errno("duplicate a descriptor");
    return copy;
}

std::uint64_t file_bytes(int descriptor) {
    struct stat status{};
    if (::fstat(descriptor, &status) != 0) throw_errno("fstat");
    return static_cast<std::uint64_t>(status.st_size);
}

EventFd::EventFd() : file_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!file_) throw_errno("eventfd");
}

void EventFd::signal() const noexcept {
    signal_event(file_.get());
}
bool EventFd::drain() const noexcept {
    return drain_event(file_.get());
}

bool signal_event(int descriptor) noexcept {
    const std::uint64_t one = 1;
    return ::write(descriptor, &one, sizeof(one)) == sizeof(one);
}

bool drain_event(int descriptor) noexcept {
    std::uint64_t count = 0;
    iovec place{&count, sizeof(count)};
    // O_NONBLOCK is the peer's to clear, as the open file is shared; this flag is ours.
    return ::preadv2(descriptor, &place, 1, -1, RWF_NOWAIT) == sizeof(count);
}

}  // namespace vitrine::mem
