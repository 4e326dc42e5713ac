#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/guest/frontend.hpp"
#include "apps/guest/options.hpp"
#include "apps/guest/schedule.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {

/// Connects to the back-end, or waits for it with --listen. Throws std::system_error.
mem::FileDescriptor reach_backend(const Options& options, std::chrono::milliseconds limit);

/// The connection to the back-end, which may die and come back while the guest lives on with its rings and the pages
/// that it holds. The next one is told of the same rings; that it goes on at used.idx is its affair.
class BackendLink : public Transport {
public:
    /// Negotiates; see Frontend.
    BackendLink(const Options& options, mem::FileDescriptor socket, std::uint64_t wanted, unsigned rings);

    GuestRam make_ram(std::size_t bytes, mem::Backing backing) override { return frontend_.make_ram(bytes, backing); }
    /// Memory and rings are needed again at each return of the back-end, so they must outlive it.
    void activate(const GuestRam& ram, std::span<RingEnd* const> rings) override;
    void deactivate(std::span<RingEnd* const> rings) override;

    /// Notices that the back-end is gone, and takes the next one. False: there is none, and none came within
    /// --reconnect. Throws std::system_error when what comes is no successor of the old one.
    bool keep(Clock::time_point now) override;
    bool away() const noexcept override { return away_since_.has_value(); }
    std::uint64_t returns() const noexcept override { return returns_; }
    bool calls() const noexcept override { return true; }
    int descriptor() const noexcept override { return away() ? -1 : frontend_.descriptor(); }

private:
    void succeed();

    const Options& options_;
    Frontend frontend_;
    const GuestRam* ram_ = nullptr;
    std::vector<RingEnd*> rings_;
    std::optional<Clock::time_point> away_since_;
    Clock::time_point next_try_{};
    std::uint64_t returns_ = 0;
};

}  // namespace vitrine::guest
