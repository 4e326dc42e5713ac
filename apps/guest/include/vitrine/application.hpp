#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vitrine/port.hpp>

/// Frames of a Port read in place by another process of the same guest, the application (docs/zero_copy.md). It is
/// trusted less than the port's owner: it can read, and give frames back; whatever else it does hurts itself alone.
namespace vitrine {

/// The owner's side: a UNIX socket where one application at a time is let in.
///     for (;;) {
///         door.serve();
///         if (door.has_room())
///             for (const Frame& frame : port.receive())
///                 if (!door.show(frame)) port.release(frame);
///         door.wait(limit);
///     }
/// The port's thread only. The constructor throws std::system_error that names the attempt.
class ApplicationDoor {
public:
    struct Options {
        std::string path;              ///< of the socket
        std::uint32_t entries = 4096;  ///< frame parts that an application can hold; a power of two from 512 up
        unsigned mode = 0660;          ///< of the socket: who may be the application
        std::chrono::milliseconds most_quiet{1000};  ///< frames are shown when so long no other came to be gathered
    };
    struct Statistics {
        std::uint64_t applications = 0;  ///< that came
        std::uint64_t frames = 0;        ///< shown
        std::uint64_t wake_ups = 0;      ///< times that frames were shown
        std::uint64_t signals = 0;       ///< of these, how often the application slept
        std::uint64_t expelled = 0;      ///< applications that broke a rule
        std::uint32_t frames_held = 0;   ///< shown, and not given back yet
    };

    ApplicationDoor(Port& port, const Options& options);
    ApplicationDoor(ApplicationDoor&&) noexcept;
    ApplicationDoor& operator=(ApplicationDoor&&) noexcept;
    /// Frames that the application holds go back to the port.
    ~ApplicationDoor();

    /// Lets applications in and out, and gives back to the port what they released. Once per turn of the loop.
    void serve() noexcept;
    /// An application is there, and can be shown a burst of frames.
    bool has_room() const noexcept;
    /// Shows the application a frame, now or when as much is gathered as it wants. It is given back by serve() when the
    /// application is done. False: it was not taken, and is still yours.
    bool show(const Frame& frame) noexcept;
    /// Shows what is gathered.
    void flush() noexcept;
    /// Spins for a little, then sleeps as Port::wait() does, and also until applications come and go. An application
    /// gives frames back by a store, which wakes nobody: while it holds any, sleeps are of 200 us at most.
    void wait(std::chrono::nanoseconds limit) noexcept;
    Statistics statistics() const noexcept;

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

/// The application's side:
///     application.gather(65536);
///     while (application.spin(limit)) {  // or sleep(limit)
///         for (const Frame& frame : application.receive()) ...;
///         application.release();
///     }
/// One thread at a time. The constructor throws std::system_error or std::runtime_error that names the attempt; nothing
/// else throws or allocates, and sleep(), arm(), ended() alone make system calls.
class ApplicationPort {
public:
    explicit ApplicationPort(const std::string& door_path,
                             std::chrono::milliseconds patience = std::chrono::seconds(5));
    ApplicationPort(ApplicationPort&&) noexcept;
    ApplicationPort& operator=(ApplicationPort&&) noexcept;
    /// Gives every frame back. None must be used any more.
    ~ApplicationPort();

    /// How many bytes of frames should be gathered before we are woken; 0: the first frame wakes.
    void gather(std::uint32_t bytes) noexcept;
    /// Everything that was shown and not yet received. The list is good until the next call, the frames until they are
    /// released.
    std::span<const Frame> receive() noexcept;
    /// Gives the oldest `frames` of the received ones back, by one store.
    void release(std::size_t frames) noexcept;
    /// Gives back all that were received.
    void release() noexcept;
    std::span<const std::byte> part(const Frame& frame, std::size_t index) const noexcept;
    std::span<const std::byte> contiguous(const Frame& frame, std::span<std::byte> scratch) const noexcept;

    /// One load: frames were shown that were not received yet.
    bool has_frames() const noexcept;
    /// Waits without a system call, or asleep. True: there are frames.
    bool spin(std::chrono::nanoseconds limit) const noexcept;
    bool sleep(std::chrono::nanoseconds limit) noexcept;
    /// To wait for other things beside: arm(), and if that is false, until descriptor() is readable; then sleep(0).
    /// True: there are frames already.
    bool arm() noexcept;
    int descriptor() const noexcept;

    /// The owner ended the connection, or broke a rule: no more frames come.
    bool ended() const noexcept;
    /// What was read until now was what the owner showed. Once false, all that was read since the last true is void.
    bool intact() const noexcept;

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace vitrine
