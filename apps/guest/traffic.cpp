#include "apps/guest/traffic.hpp"

#include <cstring>

namespace vitrine::guest {

Receiver::Receiver(const Options& options) : check_(options.mode == Mode::check) {
    if (!options.pcap_out.empty()) capture_.emplace(options.pcap_out);
}

std::optional<mem::Stamp> Receiver::accept(std::span<const std::byte> frame) {
    ++counts_.frames;
    counts_.bytes += frame.size();
    if (capture_) capture_->write(frame);
    if (!check_) return std::nullopt;
    const auto stamp = mem::read_test_frame(frame);
    if (!stamp) {
        ++(stamp.error() == mem::StampFault::bad_crc ? counts_.bad_crc : counts_.unstamped);
        return std::nullopt;
    }
    sequence_.accept(*stamp);
    return *stamp;
}

Result::Received Receiver::finish() {
    if (capture_) capture_->finish();
    counts_.lost = sequence_.lost();
    counts_.out_of_order = sequence_.out_of_order();
    return counts_;
}

Source::Source(const Options& options, const mem::EthernetAddress& own_address)
    : count_(options.count),
      frame_bytes_(options.wire_bytes - crc_bytes),
      flows_(options.flows),
      destination_(options.destination),
      own_address_(own_address) {
    if (!options.pcap_in.empty()) capture_.emplace(options.pcap_in);
}

std::optional<std::size_t> Source::write_next(std::span<std::byte> buffer) {
    if (count_ && made_ == *count_) return std::nullopt;
    std::optional<std::size_t> length_bytes = frame_bytes_;
    if (capture_) {
        length_bytes = capture_->read(buffer);
    } else {
        const mem::Stamp stamp{static_cast<std::uint16_t>(made_ % flows_), made_ / flows_};
        mem::write_test_frame(buffer.first(frame_bytes_), destination_, own_address_, stamp);
    }
    if (length_bytes) ++made_;
    return length_bytes;
}

void write_echo(std::span<const std::byte> frame, std::span<std::byte> buffer) {
    mem::EthernetAddress destination;
    mem::EthernetAddress source;
    std::memcpy(destination.data(), frame.data(), destination.size());
    std::memcpy(source.data(), frame.data() + destination.size(), source.size());
    if (const auto stamp = mem::read_test_frame(frame)) {
        mem::write_test_frame(buffer.first(frame.size()), source, destination, *stamp);
        return;
    }
    std::memcpy(buffer.data(), frame.data(), frame.size());
    std::memcpy(buffer.data(), source.data(), source.size());
    std::memcpy(buffer.data() + source.size(), destination.data(), destination.size());
}

}  // namespace vitrine::guest
