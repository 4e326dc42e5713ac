#include "apps/guest/capture.hpp"

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include <pcap/pcap.h>

namespace vitrine::guest {

namespace {

constexpr int snapshot_bytes = 65535;

}  // namespace

void CaptureWriter::CloseCapture::operator()(pcap* capture) const {
    ::pcap_close(capture);
}
void CaptureWriter::CloseDumper::operator()(pcap_dumper* dumper) const {
    ::pcap_dump_close(dumper);
}
void CaptureReader::CloseCapture::operator()(pcap* capture) const {
    ::pcap_close(capture);
}

CaptureWriter::CaptureWriter(const std::string& path)
    : path_(path),
      capture_(::pcap_open_dead_with_tstamp_precision(DLT_EN10MB, snapshot_bytes, PCAP_TSTAMP_PRECISION_NANO)) {
    if (capture_ == nullptr) throw std::runtime_error(path + ": libpcap has no memory");
    dumper_.reset(::pcap_dump_open(capture_.get(), path.c_str()));
    if (dumper_ == nullptr) throw std::runtime_error(std::string("--pcap-out: ") + ::pcap_geterr(capture_.get()));
}

void CaptureWriter::write(std::span<const std::byte> frame) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
    pcap_pkthdr header{};
    header.ts.tv_sec = seconds.count();
    header.ts.tv_usec = std::chrono::nanoseconds(now - seconds).count();  // nanoseconds, as opened
    header.caplen = header.len = static_cast<bpf_u_int32>(frame.size());
    ::pcap_dump(reinterpret_cast<u_char*>(dumper_.get()), &header, reinterpret_cast<const u_char*>(frame.data()));
}

void CaptureWriter::finish() {
    if (::pcap_dump_flush(dumper_.get()) != 0) throw std::runtime_error(path_ + ": cannot be written: disk full?");
}

CaptureReader::CaptureReader(const std::string& path) : path_(path) {
    std::array<char, PCAP_ERRBUF_SIZE> error{};
    capture_.reset(::pcap_open_offline(path.c_str(), error.data()));
    if (capture_ == nullptr) throw std::runtime_error(std::string("--pcap-in: ") + error.data());
    if (::pcap_datalink(capture_.get()) != DLT_EN10MB) throw std::runtime_error(path + ": holds no Ethernet frames");
}

std::optional<std::size_t> CaptureReader::read(std::span<std::byte> frame) {
    for (;;) {
        pcap_pkthdr* header = nullptr;
        const u_char* bytes = nullptr;
        const int result = ::pcap_next_ex(capture_.get(), &header, &bytes);
        if (result == PCAP_ERROR_BREAK) return std::nullopt;
        if (result != 1) throw std::runtime_error(path_ + ": " + ::pcap_geterr(capture_.get()));
        if (header->caplen < header->len || header->caplen > frame.size()) {
            ++skipped_;
            continue;
        }
        std::memcpy(frame.data(), bytes, header->caplen);
        return header->caplen;
    }
}

}  // namespace vitrine::guest
