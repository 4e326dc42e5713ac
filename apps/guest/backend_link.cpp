#include "apps/guest/backend_link.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "mem/socket.hpp"

namespace vitrine::guest {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds between_tries = 20ms;
/// vitrine --connect tries once a second.
constexpr std::chrono::milliseconds listening_turn = 1500ms;

/// What one sees of a process that is not there yet, or dies again.
bool may_come(const std::error_code& code) {
    constexpr std::array passing{std::errc::no_such_file_or_directory,
                                 std::errc::connection_refused,
                                 std::errc::connection_reset,
                                 std::errc::broken_pipe,
                                 std::errc::timed_out,
                                 std::errc::resource_unavailable_try_again};
    return std::ranges::any_of(passing, [&](std::errc one) { return code == one; });
}

}  // namespace

mem::FileDescriptor reach_backend(const Options& options, std::chrono::milliseconds limit) {
    return options.listen ? await_backend(options.socket_path, limit) : connect_to_backend(options.socket_path, limit);
}

BackendLink::BackendLink(const Options& options, mem::FileDescriptor socket, std::uint64_t wanted, unsigned rings)
    : options_(options), frontend_(std::move(socket), wanted, rings) {
    features_ = frontend_.features();
    config_ = frontend_.config();
}

void BackendLink::activate(const GuestRam& ram, std::span<RingEnd* const> rings) {
    ram_ = &ram;
    rings_.assign(rings.begin(), rings.end());
    frontend_.activate(ram, rings_);
}

void BackendLink::deactivate(std::span<RingEnd* const> rings) {
    if (!away()) frontend_.deactivate(rings);
}

bool BackendLink::keep(Clock::time_point now) {
    if (!away()) {
        if (!mem::wait_readable(frontend_.descriptor(), 0ms)) return true;
        away_since_ = next_try_ = now;
    }
    if (now - *away_since_ >= std::chrono::seconds(options_.reconnect_seconds)) return false;
    if (now < next_try_) return true;
    next_try_ = now + between_tries;
    try {
        succeed();
    } catch (const std::system_error& error) {
        if (!may_come(error.code())) throw;
    }
    return true;
}

void BackendLink::succeed() {
    Frontend next(reach_backend(options_, options_.listen ? listening_turn : 0ms), features_,
                  static_cast<unsigned>(rings_.size()));
    if (next.features() != features_)
        throw std::system_error(EPROTO, std::generic_category(), "the back-end came back and offers less than before");
    next.activate(*ram_, rings_);
    frontend_ = std::move(next);
    away_since_.reset();
    ++returns_;
}

}  // namespace vitrine::guest
