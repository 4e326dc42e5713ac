#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "apps/frame/wire_bytes.hpp"

namespace vitrine::apps {

/// Where the one host that we send to is, and when to ask for it: RFC 4861, 7.3, for one neighbour, ARP's as well.
///
/// It is asked for at once, every second three times, and then every five seconds for as long as it takes. What was
/// heard is good for 30 s; then the host is asked at the address that it had, and forgotten if it does not answer three
/// times. One thread drives it; address() and is_hopeful() may be called by any.
class Neighbour {
public:
    using Time = std::chrono::steady_clock::time_point;
    enum class Ask : std::uint8_t { nobody, everyone, itself };

    static constexpr std::chrono::seconds retry{1}, patient_retry{5}, reachable{30};
    static constexpr unsigned tries = 3;

    Neighbour() = default;
    /// One whose address was given: nobody is ever asked.
    explicit Neighbour(const MacAddress& fixed) : fixed_(true) { remember(fixed); }

    /// Whom to ask now. To be called every second or more often.
    Ask due(Time now) noexcept {
        if (fixed_ || now < next_) return Ask::nobody;
        bool known = address().has_value();
        if (known && asked_ == tries) {
            word_.store(0, std::memory_order_relaxed);
            asked_ = 0;
            known = false;
        }
        const bool patient = asked_ == tries;
        if (patient)
            hopeful_.store(false, std::memory_order_relaxed);
        else
            ++asked_;
        next_ = now + (patient ? patient_retry : retry);
        return known ? Ask::itself : Ask::everyone;
    }

    /// `overrides`: it may have moved; else an address that differs from a known one is not taken.
    void heard(const MacAddress& at, bool overrides, Time now) noexcept {
        const std::optional<MacAddress> known = address();
        if (fixed_ || (known && *known != at && !overrides)) return;
        remember(at);
        asked_ = 0;
        hopeful_.store(true, std::memory_order_relaxed);
        next_ = now + reachable;
    }

    std::optional<MacAddress> address() const noexcept {
        const std::uint64_t word = word_.load(std::memory_order_relaxed);
        if (word == 0) return std::nullopt;
        MacAddress address;
        for (std::size_t i = 0; i < address.size(); ++i) address[i] = static_cast<std::uint8_t>(word >> (8 * i));
        return address;
    }
    /// An answer may still come soon: what waits for it need not be dropped.
    bool is_hopeful() const noexcept { return hopeful_.load(std::memory_order_relaxed); }

private:
    void remember(const MacAddress& at) noexcept {
        std::uint64_t word = std::uint64_t{1} << 63;  // also of an address that is all zeros
        for (std::size_t i = 0; i < at.size(); ++i) word |= std::uint64_t{at[i]} << (8 * i);
        word_.store(word, std::memory_order_relaxed);
    }

    bool fixed_ = false;
    std::atomic<std::uint64_t> word_ = 0;  ///< the address in one piece
    std::atomic<bool> hopeful_ = true;
    Time next_{};
    unsigned asked_ = 0;  ///< times since it was heard of, or forgotten
};

}  // namespace vitrine::apps
