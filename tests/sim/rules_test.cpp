// Strict mode and malicious-driver detection: for each rule a driver that breaks it, and ours, which breaks none.
#include "tests/sim/driver_bench.hpp"
#include "tests/sim/rule_bench.hpp"

namespace vitrine::sim_test {
namespace {

using namespace driver;
using namespace std::chrono_literals;
using vf_sim::Part;
using vf_sim::Policy;
using vf_sim::Rule;

struct Row {
    Rule rule;
    void (*misbehave)(RuleBench& bench);
};

const Row rows[]{
    {Rule::bus_master,
     [](RuleBench& bench) {
         const std::array none{std::byte{0}, std::byte{0}};
         bench.receive_on(false);
         bench.vf.write_config(4, none);
         bench.receive_on(true);
     }},
    {Rule::not_programmed,
     [](RuleBench& bench) {
         bench.reset();
         bench.put(VFRDT{}, 0u);
         bench.ask(MessageType::set_longest_frame, 1518);
         bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1), 0u);
     }},
    {Rule::mailbox_without_lock, [](RuleBench& bench) { bench.put(VFMBMEM{{1}}, 3u); }},
    {Rule::request_without_lock, [](RuleBench& bench) { bench.put(VFMAILBOX{}.with(VFMAILBOX::request, 1)); }},
    {Rule::signal_with_lock,
     [](RuleBench& bench) {
         bench.put(VFMAILBOX{}.with(VFMAILBOX::vf_owns, 1));
         bench.put(VFMAILBOX{}.with(VFMAILBOX::vf_owns, 1).with(VFMAILBOX::request, 1));
     }},
    {Rule::null_address, [](RuleBench& bench) { bench.post_one(0); }},
    {Rule::odd_address, [](RuleBench& bench) { bench.post_one(bench.buffer(4).raw + 1); }},
    {Rule::posted_twice, [](RuleBench& bench) { bench.post_one(bench.buffer(2).raw); }},
    {Rule::buffer_size, [](RuleBench& bench) { bench.buffers(0, 1); }},
    {Rule::descriptor_split, [](RuleBench& bench) { bench.buffers(2, 2); }},
    {Rule::ring_alignment,
     [](RuleBench& bench) {
         bench.tx_off();
         bench.put(VFTDBAL{{static_cast<std::uint32_t>(RuleBench::tx_ring_at.raw) + 64}}, 0u);
     }},
    {Rule::ring_length,
     [](RuleBench& bench) {
         bench.receive_on(false);
         bench.put(VFRDLEN{{100}}, 0u);
     }},
    {Rule::written_while_enabled, [](RuleBench& bench) { bench.put(VFTDLEN{{RuleBench::slots * 16}}, 0u); }},
    {Rule::early_tail,
     [](RuleBench& bench) {
         bench.receive_on(false);
         bench.put(VFRDH{}, 0u);
         bench.put(VFRDT{{4}}, 0u);
         bench.put(VFRXDCTL{}.with(VFRXDCTL::enable, 1), 0u);
     }},
    {Rule::wild_tail, [](RuleBench& bench) { bench.put(VFRDT{{RuleBench::slots}}, 0u); }},
    {Rule::overfull, [](RuleBench& bench) { bench.put(VFRDT{{0}}, 0u); }},
    {Rule::changed_descriptor,
     [](RuleBench& bench) {
         bench.rx(0).page_iova = bench.buffer(6).raw;
         bench.vf.receive(RuleBench::frame(RuleBench::own));
     }},
    {Rule::no_longest_frame,
     [](RuleBench& bench) {
         bench.reset();
         bench.enable_rx();
     }},
    {Rule::legacy_descriptor, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::advanced, 0)); }},
    {Rule::descriptor_type, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::type, 5)); }},
    {Rule::buffer_too_long, [](RuleBench& bench) { bench.send(RuleBench::segmented(16385)); }},
    {Rule::payload_length, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::payload_bytes, 59)); }},
    {Rule::context_slot, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::context, 2)); }},
    {Rule::context_flags,
     [](RuleBench& bench) {
         TxDescriptor context = RuleBench::context();
         context.high |= TxData::end_of_packet.mask;
         bench.send(context, RuleBench::good(60));
     }},
    {Rule::mac_length, [](RuleBench& bench) { bench.send(RuleBench::context(13), RuleBench::good(60)); }},
    {Rule::frame_too_short, [](RuleBench& bench) { bench.send(RuleBench::good(16)); }},
    {Rule::too_many_descriptors,
     [](RuleBench& bench) {
         bench.tx_off();
         bench.put(VFTDLEN{{64 * 16}}, 0u);
         bench.tx_on();
         bench.tx(0) = RuleBench::context();
         for (std::uint32_t slot = 1; slot < 41; ++slot)
             bench.tx(slot) =
                 bench.with(RuleBench::good(2).with(TxData::end_of_packet, 0).with(TxData::report_status, 0));
         bench.put(VFTDT{{41}}, 0u);
         bench.transmit();
     }},
    {Rule::frame_too_long, [](RuleBench& bench) { bench.send(RuleBench::good(15873)); }},
    {Rule::empty_buffer,
     [](RuleBench& bench) {
         bench.queue(bench.with(RuleBench::good(60)
                                    .with(TxData::buffer_bytes, 0)
                                    .with(TxData::end_of_packet, 0)
                                    .with(TxData::report_status, 0)));
         bench.send(RuleBench::good(60));
     }},
    {Rule::report_inside_frame,
     [](RuleBench& bench) {
         bench.queue(bench.with(RuleBench::good(60).with(TxData::buffer_bytes, 30).with(TxData::end_of_packet, 0)));
         bench.send(RuleBench::good(30));
     }},
    {Rule::tail_inside_frame,
     [](RuleBench& bench) {
         bench.send(RuleBench::good(60).with(TxData::end_of_packet, 0).with(TxData::report_status, 0));
     }},
    {Rule::context_before_tail,
     [](RuleBench& bench) {
         bench.queue(RuleBench::context());
         bench.show();
     }},
    {Rule::too_many_contexts,
     [](RuleBench& bench) {
         for (int i = 0; i < 4; ++i) bench.queue(RuleBench::context());
         bench.send(RuleBench::good(60));
     }},
    {Rule::no_crc, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::insert_crc, 0)); }},
    {Rule::no_context_checked,
     [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::check_context, 0)); }},
    {Rule::context_never_written, [](RuleBench& bench) { bench.send(RuleBench::good(60).with(TxData::context, 1)); }},
    {Rule::ip_length,
     [](RuleBench& bench) {
         bench.send(RuleBench::context(14, 16), RuleBench::good(60).with(TxData::ip_checksum, 1));
     }},
    {Rule::l4_length,
     [](RuleBench& bench) { bench.send(RuleBench::context(14, 20, 16), RuleBench::segmented(300, 50)); }},
    {Rule::checksum_type,
     [](RuleBench& bench) {
         TxDescriptor context = RuleBench::context();
         context.high = TxContext{{context.high}}.with(TxContext::l4_type, 3).raw;
         bench.send(context, RuleBench::good(60).with(TxData::l4_checksum, 1));
     }},
    {Rule::sctp_length,
     [](RuleBench& bench) {
         TxDescriptor context = RuleBench::context();
         context.high = TxContext{{context.high}}.with(TxContext::l4_type, 2).raw;
         bench.send(context, RuleBench::good(61).with(TxData::l4_checksum, 1));
     }},
    {Rule::segment_size,
     [](RuleBench& bench) { bench.send(RuleBench::context(14, 20, 20, 0), RuleBench::segmented(300)); }},
    {Rule::segment_header,
     [](RuleBench& bench) { bench.send(RuleBench::context(14, 200, 40), RuleBench::segmented(400, 254)); }},
    {Rule::segment_checksums,
     [](RuleBench& bench) { bench.send(RuleBench::segmented(300).with(TxData::ip_checksum, 0)); }},
    {Rule::segment_ip_length,
     [](RuleBench& bench) {
         bench.bytes(1)[17] = std::byte{1};
         bench.send(RuleBench::segmented(300));
     }},
    {Rule::changed_buffer,
     [](RuleBench& bench) {
         bench.queue(bench.whole(60));
         bench.put(VFTDT{{bench.next}}, 0u);
         bench.bytes(1)[40] ^= std::byte{1};
         bench.transmit();
     }},
    {Rule::thresholds,
     [](RuleBench& bench) {
         bench.tx_off();
         bench.tx_on(VFTXDCTL{}
                         .with(VFTXDCTL::prefetch_threshold, 32)
                         .with(VFTXDCTL::host_threshold, 1)
                         .with(VFTXDCTL::write_back_threshold, 9));
     }},
    {Rule::head_write_back,
     [](RuleBench& bench) {
         bench.tx_off();
         bench.put(VFTDWBAL{}.with(VFTDWBAL::enable, 1), 0u);
         bench.tx_on(VFTXDCTL{}.with(VFTXDCTL::write_back_threshold, 4));
     }},
    {Rule::before_reset,
     [](RuleBench& bench) {
         bench.put(VFCTRL{}.with(VFCTRL::reset, 1));
         bench.enable_tx();
     }},
    {Rule::unmapped_while_enabled,
     [](RuleBench& bench) { bench.vf.unmapping(bench.buffer(2), RuleBench::buffer_stride); }},
    {Rule::freed_too_early,
     [](RuleBench& bench) {
         bench.receive_on(false);
         bench.vf.advance(bench.now + 99us);
         bench.vf.unmapping(RuleBench::rx_ring_at, 4096);
     }},
    {Rule::bad_dma,
     [](RuleBench& bench) {
         bench.queue({(RuleBench::memory_at + RuleBench::memory_bytes).raw, RuleBench::good(60).raw});
         bench.show();
     }},
    {Rule::auto_clear,
     [](RuleBench& bench) {
         bench.put(VTEIAC{{1}});
         bench.put(VTEIMS{{1}});
     }},
};

std::uint64_t count(const vf_sim::Rules::Counts& counts, Rule rule) {
    return counts[static_cast<std::size_t>(rule)];
}
std::uint64_t total(const vf_sim::Rules::Counts& counts) {
    std::uint64_t sum = 0;
    for (const std::uint64_t one : counts) sum += one;
    return sum;
}
Policy strict_policy() {
    Policy policy;
    policy.strict = true;
    policy.spoof_check = false;
    return policy;
}
Policy detecting_policy() {
    Policy policy;
    policy.part = Part::x550;
    policy.mdd = true;
    policy.spoof_check = false;
    return policy;
}

}  // namespace

TEST_CASE("there is a driver that breaks each rule") {
    CHECK(std::size(rows) == static_cast<std::size_t>(Rule::count));
    for (std::size_t i = 0; i < std::size(rows); ++i) CHECK(static_cast<std::size_t>(rows[i].rule) == i);
}

TEST_CASE("strict mode counts the rule that is broken, and no other") {
    for (const Row& row : rows) {
        const std::string name = vf_sim::rule_texts[static_cast<std::size_t>(row.rule)].name;
        SUBCASE(name.c_str()) {
            RuleBench bench(strict_policy());
            bench.vf.receive(RuleBench::frame(RuleBench::own, 1000));
            REQUIRE(total(bench.vf.rules().violations()) == 0);
            bench.post_one(bench.buffer(4).raw);
            bench.put(VFRDT{{7}}, 0u);
            bench.reset();
            bench.ask(MessageType::set_longest_frame, 1518);
            bench.enable_rx();
            bench.post(4);
            bench.enable_tx();
            bench.next = 0;
            bench.queue(RuleBench::context());
            bench.send(RuleBench::good(60));
            REQUIRE(total(bench.vf.rules().violations()) == 0);
            row.misbehave(bench);
            CHECK(count(bench.vf.rules().violations(), row.rule) >= 1);
            for (std::size_t other = 0; other < static_cast<std::size_t>(Rule::count); ++other) {
                if (static_cast<Rule>(other) == row.rule) continue;
                CAPTURE(vf_sim::rule_texts[other].name);
                CHECK(bench.vf.rules().violations()[other] == 0);
            }
        }
    }
}

TEST_CASE("malicious-driver detection stops the queue for its causes, for no other, and on the X550 alone") {
    for (const Row& row : rows) {
        const auto& text = vf_sim::rule_texts[static_cast<std::size_t>(row.rule)];
        const std::string name = text.name;
        SUBCASE(name.c_str()) {
            RuleBench bench(detecting_policy());
            row.misbehave(bench);
            CHECK((count(bench.vf.rules().stops(), row.rule) != 0) == text.malicious);
            if (!text.malicious) CHECK(total(bench.vf.rules().stops()) == 0);
            CHECK(total(bench.vf.rules().violations()) == 0);

            Policy policy = detecting_policy();
            policy.part = Part::x540;
            RuleBench elsewhere(policy);
            row.misbehave(elsewhere);
            CHECK(total(elsewhere.vf.rules().stops()) == 0);
        }
    }
}

TEST_CASE("a queue that was stopped as malicious stays so until the VF is reset") {
    RuleBench bench(detecting_policy());
    bench.sent.clear();
    bench.send(RuleBench::good(60).with(TxData::check_context, 0));
    CHECK(bench.sent.empty());
    bench.tx_off();
    bench.enable_tx();
    bench.next = 0;
    bench.queue(RuleBench::context());
    bench.send(RuleBench::good(60));
    CHECK(bench.sent.empty());
    bench.reset();
    bench.ask(MessageType::set_longest_frame, 1518);
    bench.enable_tx();
    bench.next = 0;
    bench.queue(RuleBench::context());
    bench.send(RuleBench::good(60));
    CHECK(bench.sent.size() == 1);

    bench.enable_rx();
    bench.post(4);
    bench.put(VFRDLEN{{RuleBench::slots * 16}}, 0u);
    CHECK(bench.vf.receive(RuleBench::frame(RuleBench::own)) == vf_sim::RxOutcome::no_descriptor);
}

TEST_CASE("a hundred microseconds after the receive queue stopped its memory may go") {
    RuleBench bench(strict_policy());
    bench.receive_on(false);
    bench.vf.advance(bench.now + 100us);
    bench.vf.unmapping(RuleBench::rx_ring_at, 128);
    CHECK(total(bench.vf.rules().violations()) == 0);
}

TEST_CASE("our driver breaks no rule: start, traffic both ways, stop, reset, interrupts, and the end") {
    for (const Part part : {Part::i82599, Part::x540, Part::x550}) {
        Policy policy;
        policy.part = part;
        policy.mdd = true;
        policy.mtu_bytes = 9000;
        SimulatorThread simulator("gen:size=1518,count=2000", false, policy);
        {
            DriverBench bench(simulator.socket_path(), 2048, 9000);
            std::size_t received = 0;
            const auto take = [&](std::span<const std::byte>) { ++received; };
            for (int round = 0; round < 3; ++round) {
                for (std::uint64_t i = 0; i < 200; ++i) {
                    const auto fill = [&](std::span<std::byte> frame) {
                        mem::write_test_frame(frame, {2, 0, 0, 0, 0, 9}, vf_address, {.flow = 0, .sequence = i});
                    };
                    if (!bench.send(64 + i * 7, fill, 300)) bench.flush();
                    bench.receive(take);
                }
                bench.flush();
                CHECK(eventually([&] {
                    bench.receive(take);
                    bench.reclaim();
                    return bench.in_flight() == 0;
                }));
                bench.stop_queues();
                if (round == 1)
                    bench.start();
                else
                    bench.start_queues();
            }
            driver::route_interrupts(bench.device(), 1);
            driver::arm_mailbox_interrupt(bench.device());
            CHECK(eventually([&] {
                bench.receive(take);
                return received >= 1000;
            }));
            bench.stop_queues();
        }
        const auto status = simulator.status();
        CHECK(status["violations"] == nlohmann::json::object());
        CHECK(status["mdd"] == nlohmann::json::object());
    }
}

}  // namespace vitrine::sim_test
