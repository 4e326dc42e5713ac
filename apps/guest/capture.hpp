#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

struct pcap;
struct pcap_dumper;

namespace vitrine::guest {

/// Writes Ethernet frames to a pcap file, with nanosecond time stamps. Throws std::runtime_error naming the file.
class CaptureWriter {
public:
    explicit CaptureWriter(const std::string& path);
    void write(std::span<const std::byte> frame);
    /// Writes out what is buffered; throws when the disk is full. The destructor would not say so.
    void finish();

private:
    struct CloseCapture {
        void operator()(pcap* capture) const;
    };
    struct CloseDumper {
        void operator()(pcap_dumper* dumper) const;
    };
    std::string path_;
    std::unique_ptr<pcap, CloseCapture> capture_;
    std::unique_ptr<pcap_dumper, CloseDumper> dumper_;
};

/// Reads the frames of an Ethernet pcap file in order. Throws std::runtime_error naming the file.
class CaptureReader {
public:
    explicit CaptureReader(const std::string& path);
    /// Copies the next frame that is complete and fits into `frame` and returns its length; none at the end.
    std::optional<std::size_t> read(std::span<std::byte> frame);
    /// Frames passed over: cut off by the capture, or too long for the buffer.
    std::uint64_t skipped() const { return skipped_; }

private:
    struct CloseCapture {
        void operator()(pcap* capture) const;
    };
    std::string path_;
    std::unique_ptr<pcap, CloseCapture> capture_;
    std::uint64_t skipped_ = 0;
};

}  // namespace vitrine::guest
