#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/guest/capture.hpp"
#include "apps/guest/net_port.hpp"
#include "apps/guest/options.hpp"
#include "apps/guest/report.hpp"
#include "mem/test_frame.hpp"

/// What the program does with frames.
namespace vitrine::guest {

/// Counts what arrives, checks and keeps it as asked.
class Receiver {
public:
    /// Throws std::runtime_error when --pcap-out cannot be written.
    explicit Receiver(const Options& options);

    /// Returns its stamp, if it is checked and good.
    std::optional<mem::Stamp> accept(std::span<const std::byte> frame);
    /// Closes the capture.
    Result::Received finish();

private:
    bool check_;
    std::optional<CaptureWriter> capture_;
    mem::SequenceCheck sequence_;
    Result::Received counts_;
};

/// Makes the frames that are sent: stamped ones, or those of a capture.
class Source {
public:
    /// Throws std::runtime_error when --pcap-in cannot be read.
    Source(const Options& options, const mem::EthernetAddress& own_address);

    /// Writes the next frame to `buffer` and returns its length; none when there are no more.
    std::optional<std::size_t> write_next(std::span<std::byte> buffer);
    std::uint64_t made() const { return made_; }
    std::uint64_t skipped() const { return capture_ ? capture_->skipped() : 0; }

private:
    std::optional<std::uint64_t> count_;
    std::size_t frame_bytes_;
    std::uint32_t flows_;
    mem::EthernetAddress destination_;
    mem::EthernetAddress own_address_;
    std::optional<CaptureReader> capture_;
    std::uint64_t made_ = 0;
};

/// Writes the answer to `frame`, which is 14 bytes or more, to `buffer`: the same with addresses swapped. A stamped
/// frame gets the stamp anew, as that covers the addresses; a damaged one stays as damaged as it is.
void write_echo(std::span<const std::byte> frame, std::span<std::byte> buffer);

}  // namespace vitrine::guest
