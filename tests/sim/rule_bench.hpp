#pragma once

#include "tests/sim/vf_bench.hpp"

namespace vitrine::sim_test {

using namespace driver;  // registers by the dozen

/// A well-behaved driver with both rings of queue 0 up, until a row of the table makes it misbehave.
struct RuleBench : VfBench {
    vf_sim::Time now{std::chrono::seconds(100)};
    std::uint32_t next = 0;

    explicit RuleBench(const vf_sim::Policy& policy) : VfBench(policy) {
        vf.advance(now);
        reset();
        ask(MessageType::set_longest_frame, 1518);
        enable_rx();
        post(4);
        enable_tx();
        queue(context());
        queue(whole(60));
        show();
    }
    static TxDescriptor context(std::uint64_t mac_bytes = 14, std::uint64_t ip_bytes = 20, std::uint64_t l4_bytes = 20,
                                std::uint64_t segment_bytes = 100) {
        return {.low = TxContextHeaders{}
                           .with(TxContextHeaders::mac_header_bytes, mac_bytes)
                           .with(TxContextHeaders::ip_header_bytes, ip_bytes)
                           .raw,
                .high = TxContext{}
                            .with(TxContext::type, TxContext::context_type)
                            .with(TxContext::advanced, 1)
                            .with(TxContext::ipv4, 1)
                            .with(TxContext::l4_type, 1)
                            .with(TxContext::l4_header_bytes, l4_bytes)
                            .with(TxContext::segment_bytes, segment_bytes)
                            .raw};
    }
    static TxData good(std::uint64_t bytes) {
        return last(bytes).with(TxData::check_context, 1).with(TxData::payload_bytes, bytes);
    }
    static TxData segmented(std::uint64_t bytes, std::uint64_t headers = 54) {
        return good(bytes)
            .with(TxData::segment, 1)
            .with(TxData::ip_checksum, 1)
            .with(TxData::l4_checksum, 1)
            .with(TxData::payload_bytes, bytes - headers);
    }
    TxDescriptor with(TxData data) const { return {buffer(1).raw, data.raw}; }
    TxDescriptor whole(std::uint64_t bytes) const { return with(good(bytes)); }
    void queue(TxDescriptor descriptor) {
        tx(next) = descriptor;
        next = (next + 1) % 8;
    }
    void show() {
        put(VFTDT{{next}}, 0u);
        transmit();
    }
    void send(TxData data) {
        queue(with(data));
        show();
    }
    void send(TxDescriptor with_context, TxData data) {
        queue(with_context);
        send(data);
    }
    void receive_on(bool on) {
        if (on) put(VFRDH{}, 0u);
        if (on) put(VFRDT{}, 0u);
        put(VFRXDCTL{}.with(VFRXDCTL::enable, on), 0u);
    }
    void tx_on(VFTXDCTL control = {}) {
        put(VFTDH{}, 0u);
        put(VFTDT{}, 0u);
        put(control.with(VFTXDCTL::enable, 1), 0u);
    }
    void tx_off() { put(VFTXDCTL{}, 0u); }
    void buffers(std::uint32_t kib, std::uint32_t type) {
        receive_on(false);
        put(VFSRRCTL{}.with(VFSRRCTL::packet_buffer_kib, kib).with(VFSRRCTL::descriptor_type, type), 0u);
        receive_on(true);
    }
    void post_one(std::uint64_t address, std::uint32_t tail = 5) {
        rx(tail - 1) = {address, 0};
        put(VFRDT{{tail}}, 0u);
    }
};

}  // namespace vitrine::sim_test
