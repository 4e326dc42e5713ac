#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "apps/guest/options.hpp"
#include "apps/guest/schedule.hpp"
#include "apps/guest/violations.hpp"

namespace vitrine::guest {

/// What one run saw. Bytes are without virtio_net_hdr and without CRC.
struct Result {
    Mode mode = Mode::rx;
    Ending ending = Ending::count;
    std::chrono::nanoseconds active{};  ///< from the first frame to the last one

    struct Received {
        std::uint64_t frames = 0;
        std::uint64_t bytes = 0;
        std::uint64_t empty = 0;    ///< used buffers without a frame; not in `frames`
        std::uint64_t bad_crc = 0;  ///< from here on: only check looks
        std::uint64_t unstamped = 0;
        std::uint64_t lost = 0;
        std::uint64_t out_of_order = 0;  ///< late or twice
        std::uint64_t changed = 0;       ///< other bytes when a held frame was given back than when it came
    } received;
    struct Sent {
        std::uint64_t frames = 0;      ///< that the device has used
        std::uint64_t bytes = 0;       ///< of all that were queued
        std::uint64_t unfinished = 0;  ///< queued, and not used when the run ended
        std::uint64_t skipped = 0;     ///< not sendable: cut off or too long in a capture; for echo: came after the end
    } sent;
    struct Ring {
        Violations violations;
        std::uint64_t kicks = 0;
        std::uint64_t kicks_suppressed = 0;
        std::uint64_t calls = 0;

        Ring& operator+=(const Ring& other) {
            violations.add(other.violations);
            kicks += other.kicks;
            kicks_suppressed += other.kicks_suppressed;
            calls += other.calls;
            return *this;
        }
    } receive_ring, transmit_ring;
    std::uint64_t features = 0;
    std::uint64_t reconnects = 0;  ///< how often the back-end came back

    std::uint64_t bad() const {
        return received.bad_crc + received.unstamped + received.out_of_order + received.changed;
    }
    /// No frame was bad, no rule was broken, and the run came to an orderly end.
    bool good() const;
};

/// Empty when the run came to an orderly end; else what went wrong and what to do.
std::string failure_of(const Result& result);
std::string to_json(const Result& result);
std::string to_table(const Result& result);

}  // namespace vitrine::guest
