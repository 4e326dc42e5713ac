#include <array>
#include <cstring>
#include <poll.h>
#include <stdexcept>
#include <sys/epoll.h>
#include <system_error>
#include <thread>
#include <vector>
#include <vitrine/application.hpp>

#include "apps/guest/header_page.hpp"
#include "apps/guest/net_port.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/shown_frames.hpp"
#include "mem/mapping.hpp"
#include "mem/socket.hpp"

namespace vitrine {
namespace {

using guest::HeaderPage;
using Clock = std::chrono::steady_clock;

constexpr unsigned spins_between_clocks = 64;

[[noreturn]] void refuse(const std::string& path, const char* why) {
    throw std::runtime_error(path + ": " + why);
}

mem::FileDescriptor connect_to_door(const std::string& path, std::chrono::milliseconds patience) {
    constexpr std::chrono::milliseconds pause{20};
    const auto deadline = Clock::now() + patience;
    for (;;) {
        try {
            return mem::connect_unix(path);
        } catch (const std::system_error& error) {
            const bool may_come =
                error.code() == std::errc::no_such_file_or_directory || error.code() == std::errc::connection_refused;
            if (!may_come || Clock::now() + pause > deadline) throw;
        }
        std::this_thread::sleep_for(pause);
    }
}

/// What comes with the welcome.
struct Gifts {
    Gifts(const std::string& path, std::chrono::milliseconds patience) : connection(connect_to_door(path, patience)) {
        guest::Welcome welcome{};
        if (!mem::receive_exact(connection.get(), mem::writable_bytes_of(welcome), files, patience))
            refuse(path, "the owner ended the connection");
        if (welcome.magic != HeaderPage::magic_number || welcome.version != HeaderPage::version_number ||
            files.size() != guest::Welcome::descriptors)
            refuse(path, "no door of this version");
    }
    mem::FileDescriptor connection;
    std::vector<mem::FileDescriptor> files;  ///< header page, region, what to sleep on
};

}  // namespace

struct ApplicationPort::Parts {
    Parts(const std::string& path, Gifts gifts)
        : connection(std::move(gifts.connection)),
          wake(std::move(gifts.files[2])),
          region(gifts.files[1]),
          page(gifts.files[0].get(), mem::file_bytes(gifts.files[0].get()), 0, mem::Access::read_write),
          top(check(path)),
          frames(page.bytes(), top.entries, region.bytes(), region.layout()),
          generation(region.generation(top.queue)) {}

    HeaderPage check(const std::string& path) const {
        HeaderPage seen{};
        if (page.size() < HeaderPage::entries_offset) refuse(path, "a short header page");
        std::memcpy(&seen, page.data(), sizeof(seen));
        if (seen.magic != HeaderPage::magic_number || seen.version != HeaderPage::version_number ||
            !HeaderPage::valid_entries(seen.entries) || page.size() < guest::header_page_bytes(seen.entries) ||
            seen.queue >= region.info().queue_pairs || seen.instance != region.info().instance)
            refuse(path, "an unsound header page");
        return seen;
    }
    mem::FileDescriptor connection;
    mem::FileDescriptor wake;
    guest::PageRegion region;
    mem::Mapping page;
    HeaderPage top;
    guest::ShownFrames frames;
    std::uint32_t generation;
};

ApplicationPort::ApplicationPort(const std::string& door_path, std::chrono::milliseconds patience)
    : parts_(std::make_unique<Parts>(door_path, Gifts(door_path, patience))) {}
ApplicationPort::ApplicationPort(ApplicationPort&&) noexcept = default;
ApplicationPort& ApplicationPort::operator=(ApplicationPort&&) noexcept = default;
ApplicationPort::~ApplicationPort() = default;

void ApplicationPort::gather(std::uint32_t bytes) noexcept {
    parts_->frames.end().gather(bytes);
}

std::span<const Frame> ApplicationPort::receive() noexcept {
    return parts_->frames.receive();
}
void ApplicationPort::release(std::size_t frames) noexcept {
    parts_->frames.release(frames);
}
void ApplicationPort::release() noexcept {
    parts_->frames.release_all();
}
std::span<const std::byte> ApplicationPort::part(const Frame& frame, std::size_t index) const noexcept {
    return parts_->frames.part(frame, index);
}

std::span<const std::byte> ApplicationPort::contiguous(const Frame& frame,
                                                       std::span<std::byte> scratch) const noexcept {
    if (frame.parts == 1) return frame.bytes;
    std::size_t filled = 0;
    for (std::size_t index = 0; index < frame.parts; ++index) {
        const auto bytes = part(frame, index);
        const std::size_t fitting = std::min(bytes.size(), scratch.size() - filled);
        std::memcpy(scratch.data() + filled, bytes.data(), fitting);
        filled += fitting;
    }
    return scratch.first(filled);
}

bool ApplicationPort::has_frames() const noexcept {
    return parts_->frames.end().has_new();
}

bool ApplicationPort::spin(std::chrono::nanoseconds limit) const noexcept {
    const auto deadline = Clock::now() + limit;
    do {
        for (unsigned turn = 0; turn < spins_between_clocks; ++turn) {
            if (has_frames()) return true;
            __builtin_ia32_pause();
        }
    } while (Clock::now() < deadline);
    return has_frames();
}

bool ApplicationPort::arm() noexcept {
    parts_->frames.end().want_wake_up(true);
    return has_frames();
}

int ApplicationPort::descriptor() const noexcept {
    return parts_->wake.get();
}

bool ApplicationPort::sleep(std::chrono::nanoseconds limit) noexcept {
    if (!arm()) {
        std::array<pollfd, 2> entries{{{parts_->wake.get(), POLLIN, 0}, {parts_->connection.get(), POLLIN, 0}}};
        const timespec timeout = guest::to_timespec(limit);
        ::ppoll(entries.data(), entries.size(), &timeout, nullptr);
        epoll_event ignored{};
        ::epoll_wait(parts_->wake.get(), &ignored, 1, 0);  // the edge is seen
    }
    parts_->frames.end().want_wake_up(false);
    return has_frames();
}

bool ApplicationPort::ended() const noexcept {
    pollfd entry{parts_->connection.get(), POLLIN, 0};
    return parts_->frames.broken() || ::poll(&entry, 1, 0) > 0;
}

bool ApplicationPort::intact() const noexcept {
    return !parts_->frames.broken() && parts_->region.generation(parts_->top.queue) == parts_->generation;
}

}  // namespace vitrine
