#include "tools/vf_sim/pcap_wire.hpp"

#include <algorithm>
#include <stdexcept>
#include <sys/time.h>

#include <nlohmann/json.hpp>

namespace vitrine::vf_sim {

PcapWire::PcapWire(const Options& options) : done_(options.in.empty()) {
    if (!options.in.empty()) {
        char error[PCAP_ERRBUF_SIZE];
        in_.reset(pcap_open_offline(options.in.c_str(), error));
        if (!in_) throw std::runtime_error("capture " + options.in + ": " + error);
        if (pcap_datalink(in_.get()) != DLT_EN10MB)
            throw std::runtime_error("capture " + options.in + " does not hold Ethernet frames");
    }
    if (!options.out.empty()) {
        format_.reset(pcap_open_dead(DLT_EN10MB, most_frame_bytes));
        out_.reset(pcap_dump_open(format_.get(), options.out.c_str()));
        if (!out_) throw std::runtime_error("capture " + options.out + ": " + pcap_geterr(format_.get()));
    }
    if (options.rate > 0) pace_.emplace(options.rate);
}

std::span<const std::byte> PcapWire::next(Time now, const mem::EthernetAddress&) {
    if (done_ || (pace_ && !pace_->ready(now))) return {};
    while (head_.empty()) {
        pcap_pkthdr* header = nullptr;
        const u_char* data = nullptr;
        if (pcap_next_ex(in_.get(), &header, &data) != 1) {
            done_ = true;
            return {};
        }
        if (header->caplen < header->len || header->caplen < 14 || header->caplen > most_frame_bytes) {
            ++cut_off_;
            continue;
        }
        head_ = std::as_bytes(std::span(data, header->caplen));
        if (head_.size() < padded_.size()) {  // the sender's NIC padded it, after it was captured
            padded_ = {};
            std::ranges::copy(head_, padded_.begin());
            head_ = padded_;
        }
    }
    return head_;
}

void PcapWire::take() {
    head_ = {};
    if (pace_) pace_->take();
}

void PcapWire::transmit(std::span<const std::byte> frame) {
    if (!out_) return;
    pcap_pkthdr header{};
    ::gettimeofday(&header.ts, nullptr);
    header.caplen = header.len = static_cast<bpf_u_int32>(frame.size());
    pcap_dump(reinterpret_cast<u_char*>(out_.get()), &header, reinterpret_cast<const u_char*>(frame.data()));
}

std::optional<Time> PcapWire::due() const {
    if (!pace_ || done_) return std::nullopt;
    return pace_->next();
}

void PcapWire::report(nlohmann::json& status) const {
    if (out_) pcap_dump_flush(out_.get());  // who asks will want to read the file
    status["wire"]["kind"] = "pcap";
    status["wire"]["not_replayed"] = cut_off_;
}

}  // namespace vitrine::vf_sim
