#pragma once

#include <array>
#include <chrono>
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "driver/descriptors.hpp"
#include "driver/mailbox_messages.hpp"
#include "driver/registers.hpp"
#include "mem/shared_memory.hpp"
#include "tools/vf_sim/vf.hpp"

namespace vitrine::sim_test {

/// A VF without socket and wire: registers are called, memory is ours, and every bit can be looked at.
struct VfBench {
    using RxDescriptor = driver::RxDescriptor;
    using TxDescriptor = driver::TxDescriptor;

    static constexpr mem::Iova memory_at{0x10'0000};
    static constexpr std::size_t memory_bytes = 1 << 20;
    static constexpr std::size_t slots = 8;
    static constexpr mem::Iova rx_ring_at = memory_at, tx_ring_at = memory_at + 0x1000;
    static constexpr std::uint64_t buffers_offset = 0x1'0000;
    static constexpr std::uint64_t buffer_stride = 0x4000;
    static constexpr mem::EthernetAddress own{0x02, 0x56, 0x46, 0, 0, 1};

    mem::SharedMemory memory = mem::make_shared_memory("vf-bench", memory_bytes, mem::Backing::small_only);
    vf_sim::Vf vf;
    std::vector<std::vector<std::byte>> sent;

    static vf_sim::Policy with_address(vf_sim::Policy policy) {
        if (!policy.mac) policy.mac = own;
        return policy;
    }
    explicit VfBench(const vf_sim::Policy& policy = {}, bool give_address = true)
        : vf(give_address ? with_address(policy) : policy) {
        REQUIRE(vf.memory().map(memory_at, memory_bytes, memory.file, 0, true, true));
        const std::array bus_master{std::byte{4}, std::byte{0}};
        vf.write_config(4, bus_master);
    }

    template <class R, class... Index>
    R get(Index... index) {
        return R{{vf.load(R::at(index...))}};
    }
    template <class R, class... Index>
    void put(R value, Index... index) {
        vf.store(R::at(index...), value.raw);
    }

    /// One message as drivers send it; what the memory holds afterwards.
    vf_sim::MailboxWords ask(std::initializer_list<std::uint32_t> words) {
        put(driver::VFMAILBOX{}.with(driver::VFMAILBOX::vf_owns, 1));
        unsigned word = 0;
        for (const std::uint32_t value : words) put(driver::VFMBMEM{{value}}, word++);
        put(driver::VFMAILBOX{}.with(driver::VFMAILBOX::request, 1));
        return words_now();
    }
    vf_sim::MailboxWords ask(driver::MessageType type, std::uint32_t word_1 = 0, std::uint32_t info = 0) {
        return ask({driver::head_of(type, info).raw, word_1});
    }
    vf_sim::MailboxWords words_now() {
        vf_sim::MailboxWords words;
        for (unsigned i = 0; i < words.size(); ++i) words[i] = get<driver::VFMBMEM>(i).raw;
        return words;
    }
    void reset(driver::MailboxApi api = driver::MailboxApi::v1_3) {
        put(driver::VFCTRL{}.with(driver::VFCTRL::reset, 1));
        ask(driver::MessageType::reset);
        ask(driver::MessageType::negotiate_api, static_cast<std::uint32_t>(api));
    }

    RxDescriptor& rx(std::size_t slot) { return reinterpret_cast<RxDescriptor*>(memory.mapping.data())[slot]; }
    TxDescriptor& tx(std::size_t slot) {
        return reinterpret_cast<TxDescriptor*>(memory.mapping.data() + (tx_ring_at - memory_at))[slot];
    }
    mem::Iova buffer(std::size_t index) const { return memory_at + buffers_offset + index * buffer_stride; }
    std::span<std::byte> bytes(std::size_t index) {
        return memory.mapping.bytes().subspan(buffers_offset + index * buffer_stride, buffer_stride);
    }

    void enable_rx(unsigned queue = 0, std::uint32_t buffer_kib = 2, driver::VFRXDCTL control = {}) {
        using namespace driver;
        put(VFRDBAL{{static_cast<std::uint32_t>(rx_ring_at.raw)}}, queue);
        put(VFRDBAH{}, queue);
        put(VFRDLEN{{slots * sizeof(RxDescriptor)}}, queue);
        put(VFRDH{}, queue);
        put(VFRDT{}, queue);
        put(VFSRRCTL{}
                .with(VFSRRCTL::packet_buffer_kib, buffer_kib)
                .with(VFSRRCTL::descriptor_type, VFSRRCTL::advanced_one_buffer),
            queue);
        put(control.with(VFRXDCTL::enable, 1), queue);
    }
    /// Arms slots with their buffers, leaving old status in the second word, as Linux does, and shows `count` of them.
    void post(std::uint32_t count, unsigned queue = 0) {
        for (std::size_t slot = 0; slot < slots; ++slot)
            rx(slot) = {.page_iova = buffer(slot).raw, .done = ~std::uint64_t{0}};
        put(driver::VFRDT{{count}}, queue);
    }
    void enable_tx() {
        using namespace driver;
        put(VFTDBAL{{static_cast<std::uint32_t>(tx_ring_at.raw)}}, 0u);
        put(VFTDBAH{}, 0u);
        put(VFTDLEN{{slots * sizeof(TxDescriptor)}}, 0u);
        put(VFTDH{}, 0u);
        put(VFTDT{}, 0u);
        put(VFTDWBAL{}, 0u);
        put(VFTXDCTL{}.with(VFTXDCTL::enable, 1), 0u);
    }
    static driver::TxData data(std::uint64_t bytes) {
        using driver::TxData;
        return TxData{}
            .with(TxData::buffer_bytes, bytes)
            .with(TxData::type, TxData::data_type)
            .with(TxData::advanced, 1)
            .with(TxData::insert_crc, 1);
    }
    static driver::TxData last(std::uint64_t bytes) {
        using driver::TxData;
        return data(bytes).with(TxData::end_of_packet, 1).with(TxData::report_status, 1);
    }
    std::size_t transmit() {
        return vf.transmit(32,
                           [this](std::span<const std::byte> frame) { sent.emplace_back(frame.begin(), frame.end()); });
    }

    static std::vector<std::byte> frame(const mem::EthernetAddress& to, std::size_t bytes = 60,
                                        const mem::EthernetAddress& from = {2, 0, 0, 0, 0, 9}) {
        std::vector<std::byte> result(bytes);
        mem::write_test_frame(result, to, from, {.flow = 0, .sequence = 7});
        return result;
    }
    static std::vector<std::byte> tagged(std::vector<std::byte> frame, std::uint16_t tag) {
        const std::array inserted{std::byte{0x81}, std::byte{0}, static_cast<std::byte>(tag >> 8),
                                  static_cast<std::byte>(tag)};
        frame.insert(frame.begin() + 12, inserted.begin(), inserted.end());
        return frame;
    }
};

}  // namespace vitrine::sim_test

namespace doctest {
template <>
struct StringMaker<vitrine::vf_sim::RxOutcome> {
    static String convert(vitrine::vf_sim::RxOutcome outcome) { return toString(static_cast<int>(outcome)); }
};
}  // namespace doctest
