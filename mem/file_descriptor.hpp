#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace vitrine::mem {

/// Throws std::system_error for the current errno; `attempt` names what was tried and on what.
[[noreturn]] void throw_errno(const std::string& attempt);

/// Owns one descriptor. -1 is "none".
class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int number) : number_(number) {}
    FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept;
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor() { close(); }

    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }
    int release() { return std::exchange(number_, -1); }
    void close() noexcept;

private:
    int number_ = -1;
};

/// open(2) with O_CLOEXEC added. Throws std::system_error naming the path.
FileDescriptor open(const std::string& path, int flags, unsigned mode = 0);

/// A second descriptor for the same open file, close-on-exec. Throws std::system_error.
FileDescriptor duplicate(int descriptor);

/// Size of the file behind a descriptor in bytes. Throws std::system_error.
std::uint64_t file_bytes(int descriptor);

/// An eventfd: non-blocking, close-on-exec. signal() may be called from any thread.
class EventFd {
public:
    EventFd();
    int get() const { return file_.get(); }
    void signal() const noexcept;
    /// True when it had been signalled since the last drain.
    bool drain() const noexcept;

private:
    FileDescriptor file_;
};

/// Signals an eventfd that a peer gave us. A full counter or a closed descriptor is the peer's loss, not ours; false
/// then. A peer that fills the counter and clears O_NONBLOCK, which is its to clear, holds the caller until a signal
/// comes (EINTR): whoever writes to a peer's eventfd needs somebody to wake it, as a poll thread has (Handover).
bool signal_event(int descriptor) noexcept;
/// Reads an eventfd that a peer gave us; false when it was not signalled.
bool drain_event(int descriptor) noexcept;

}  // namespace vitrine::mem
