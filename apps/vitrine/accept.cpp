#include "apps/vitrine/accept.hpp"

#include <chrono>
#include <system_error>

#include <spdlog/spdlog.h>

#include "mem/socket.hpp"

namespace vitrine::apps {
namespace {

constexpr std::chrono::seconds pause{1};
constexpr unsigned failures_a_line = 60;

}  // namespace

mem::FileDescriptor accept_or_rest(EventLoop& loop, int listener, std::string_view who, std::uint64_t& failures) {
    try {
        return mem::accept_unix(listener);
    } catch (const std::system_error& error) {
        if (failures++ % failures_a_line == 0)
            spdlog::warn("{}: {}; trying again every second (LimitNOFILE=, ulimit -n)", who, error.what());
        loop.rest(listener, pause);
        return {};
    }
}

}  // namespace vitrine::apps
