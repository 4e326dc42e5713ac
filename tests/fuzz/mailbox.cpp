#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <system_error>

#include "driver/statistics.hpp"
#include "driver/vf.hpp"

/// A PF that answers what it likes. The driver must end each conversation with a value that makes sense or an error,
/// and in bounded time.
namespace {

using namespace vitrine::driver;

class Input {
public:
    explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
    std::uint8_t byte() {
        if (bytes_.empty()) return 0;
        const std::uint8_t value = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return value;
    }
    std::uint32_t word() {
        const std::uint32_t low = byte(), second = byte(), third = byte();
        return low | second << 8 | third << 16 | std::uint32_t{byte()} << 24;
    }

private:
    std::span<const std::uint8_t> bytes_;
};

struct FakeClock {
    std::chrono::nanoseconds time{};
    std::chrono::nanoseconds now() const { return time; }
    void sleep_for(std::chrono::nanoseconds pause) { time += pause; }
};

/// The first byte of each reply says how it is made; in wild mode registers too read what the input says.
class HostilePf {
public:
    explicit HostilePf(Input& input) : input_(input), wild_((input.byte() & 1) != 0) {}

    std::uint32_t load(std::uint32_t offset) {
        if (wild_ && (input_.byte() & 1) != 0) return input_.word();
        if (offset != VFMAILBOX::at()) return registers_[offset];
        const std::uint32_t value = mailbox_;
        mailbox_ &= ~VFMAILBOX::read_to_clear;
        return value;
    }

    void store(std::uint32_t offset, std::uint32_t value) {
        if (offset != VFMAILBOX::at()) {
            registers_[offset] = value;
            return;
        }
        mailbox_ = (mailbox_ & ~VFMAILBOX::vf_owns.mask) | (value & VFMAILBOX::vf_owns.mask);
        if ((value & VFMAILBOX::request.mask) != 0) reply();
    }

private:
    void reply() {
        const std::uint8_t how = input_.byte();
        if ((how & 1) != 0) return;                                     // silence
        if ((how & 2) == 0) registers_[VFMBMEM::at(0)] |= 0xa000'0000;  // an honest success
        if ((how & 4) != 0) registers_[VFMBMEM::at(0)] = input_.word();
        for (unsigned word = 0; word < how >> 4; ++word) registers_[VFMBMEM::at(1 + word)] = input_.word();
        mailbox_ |= (how & 8) != 0 ? input_.byte() & 0xf8 : VFMAILBOX::pf_status.mask;
    }

    Input& input_;
    bool wild_;
    std::uint32_t mailbox_ = 0;
    std::array<std::uint32_t, bar0_bytes> registers_{};  // by offset: every fourth is used
};

void require(bool holds) {
    if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input({data, size});
    HostilePf pf(input);
    FakeClock clock;
    Vf vf(pf, clock);
    try {
        const Identity& identity = vf.reset({2, 0, 0, 0, 0, 1});
        require(is_station_address(identity.mac));
        require(identity.rx_queues >= 1 && identity.rx_queues <= queue_slots);
        require(identity.tx_queues >= 1 && identity.tx_queues <= queue_slots);

        vf.set_longest_frame(1518);
        const bool promiscuous = (input.byte() & 1) != 0;
        const FilterGrant grant = vf.set_filters({.vlans = {1, 2}, .promiscuous = promiscuous, .groups = {{1, 0, 94}}});
        require(grant.hashes.size() <= most_multicast_hashes);
        require(grant.mode <= (promiscuous ? ReceiveMode::promiscuous : ReceiveMode::all_multicast));

        StatisticsReader statistics;
        statistics.begin(pf);
        for (int i = 0; i < 3; ++i) vf.watch();
        statistics.update(pf);
    } catch (const std::system_error&) {
        // The PF's doing.
    }
    require(clock.now() < std::chrono::minutes(2));
    return 0;
}
