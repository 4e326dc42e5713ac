#include <algorithm>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <vector>
#include <vitrine/application.hpp>

#include "apps/guest/header_page.hpp"
#include "apps/guest/net_port.hpp"
#include "mem/region_layout.hpp"
#include "mem/shared_memory.hpp"
#include "mem/socket.hpp"
#include "virtio/net_header.hpp"

namespace vitrine {
namespace {

using guest::ShownPart;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

/// Nobody can sleep on a store to shared memory.
constexpr nanoseconds spin_time = microseconds(50);
constexpr nanoseconds shortest_nap = microseconds(10);
constexpr nanoseconds longest_nap = microseconds(200);
/// How often a busy owner looks who comes and goes: that is a system call.
constexpr nanoseconds look_interval = std::chrono::milliseconds(1);
/// Parts of the most frames that Port::receive() returns, at 9000 bytes in pages of 2 KiB.
constexpr std::uint32_t burst_parts = 64 * 5;

mem::FileDescriptor make_epoll() {
    mem::FileDescriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) mem::throw_errno("epoll_create1");
    return epoll;
}

void watch(const mem::FileDescriptor& epoll, int descriptor, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = descriptor}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) mem::throw_errno("epoll_ctl");
}

bool is_readable(int descriptor) noexcept {
    pollfd entry{descriptor, POLLIN, 0};
    return ::poll(&entry, 1, 0) > 0;
}

std::uint32_t flags_of(const Frame& frame) noexcept {
    using virtio::NetHeader;
    const FrameHeader& header = frame.header;
    if (header.gso_type != NetHeader::gso_none || (header.flags & ~NetHeader::data_valid) != 0)
        return ShownPart::header;
    return header.flags != 0 ? ShownPart::checksum_ok : 0;
}

/// One application. The eventfd never leaves us: the application gets an epoll instance around it, where it can wait
/// and cannot write, so it cannot fill the counter and make our next write block.
struct Session {
    struct Held {
        Frame frame;
        std::uint32_t end;  ///< parts shown until and with it
    };

    Session(mem::FileDescriptor connected, const Port& port, const ApplicationDoor::Options& options)
        : connection(std::move(connected)),
          memory(mem::make_shared_memory("header-page", guest::header_page_bytes(options.entries),
                                         mem::Backing::small_only)),
          end(memory.mapping.bytes(), options.entries, port.queue(),
              reinterpret_cast<const mem::InfoPage*>(port.region().data())->instance),
          wake_epoll(make_epoll()),
          held(options.entries) {
        // Edge by edge: nobody needs to drain it.
        watch(wake_epoll, wake.get(), EPOLLIN | EPOLLET);
        const guest::Welcome welcome{};
        mem::send_all(connection.get(), mem::bytes_of(welcome),
                      std::array{memory.file.get(), port.region_descriptor(), wake_epoll.get()}, {});
    }

    mem::FileDescriptor connection;
    mem::SharedMemory memory;
    guest::ShowingEnd end;
    mem::EventFd wake;
    mem::FileDescriptor wake_epoll;
    std::vector<Held> held;  ///< a ring, as a frame has a part or more
    std::uint32_t oldest = 0;
    std::uint32_t newest = 0;
};

}  // namespace

struct ApplicationDoor::Parts {
    Parts(Port& shown_port, const Options& wanted)
        : port(shown_port),
          options(wanted),
          listener(mem::listen_unix(wanted.path, mem::SocketType::stream, wanted.mode)),
          comings(make_epoll()) {
        // Who went before we accepted it must not leave us waiting for the next.
        if (::fcntl(listener.get(), F_SETFL, O_NONBLOCK) != 0) mem::throw_errno("listen at " + wanted.path);
        // By its edge: who comes while another is there waits, and need not wake us again.
        watch(comings, listener.get(), EPOLLIN | EPOLLET);
    }

    /// Gives back to the port what the application is done with; all of it when it goes.
    void give_back(bool all) noexcept {
        while (session->oldest != session->newest) {
            const Session::Held& held = session->held[session->oldest & (options.entries - 1)];
            if (!all && static_cast<std::int32_t>(session->end.released_until() - held.end) < 0) break;
            port.release(held.frame);
            ++session->oldest;
            moved = true;
        }
    }
    void end_session() noexcept {
        give_back(true);
        session.reset();  // its socket leaves the epoll with it
        gathered_bytes = 0;
    }
    void look_who_comes_and_goes() noexcept {
        looked = Clock::now();
        // An application says nothing: whatever is to be read is its end.
        if (session && is_readable(session->connection.get())) end_session();
        if (session || !is_readable(listener.get())) return;
        try {
            mem::FileDescriptor connection = mem::accept_unix(listener.get());
            if (!connection) return;
            session.emplace(std::move(connection), port, options);
            watch(comings, session->connection.get(), EPOLLIN | EPOLLRDHUP);
            ++counts.applications;
            moved = true;
        } catch (...) {  // it went already, or memory is short: as if it had not come
            if (session) end_session();
        }
    }
    void take_released() noexcept {
        if (session->end.take_released()) return give_back(false);
        ++counts.expelled;
        end_session();
    }
    void show_if_enough() noexcept {
        if (!session || !session->end.has_staged()) return;
        const Port::Statistics held = port.statistics();
        if (gathered_bytes >= session->end.gather_bytes() || held.pages_held >= held.most_pages_held ||
            session->end.room() < burst_parts || Clock::now() - last_gathered >= options.most_quiet)
            show();
    }
    void show() noexcept {
        if (!session || !session->end.has_staged()) return;
        ++counts.wake_ups;
        gathered_bytes = 0;
        if (!session->end.show()) return;
        session->wake.signal();
        ++counts.signals;
    }

    Port& port;
    Options options;
    mem::FileDescriptor listener;
    mem::FileDescriptor comings;  ///< an epoll: the listener, and the connection that we have
    std::optional<Session> session;
    std::uint64_t gathered_bytes = 0;
    Clock::time_point last_gathered;
    Clock::time_point looked;
    Clock::time_point last_moved;
    bool moved = false;  ///< since the last wait()
    nanoseconds nap = shortest_nap;
    Statistics counts;
};

ApplicationDoor::ApplicationDoor(Port& port, const Options& options) {
    if (!guest::HeaderPage::valid_entries(options.entries))
        throw std::system_error(EINVAL, std::generic_category(), "entries of a header page");
    parts_ = std::make_unique<Parts>(port, options);
}
ApplicationDoor::ApplicationDoor(ApplicationDoor&&) noexcept = default;
ApplicationDoor& ApplicationDoor::operator=(ApplicationDoor&&) noexcept = default;
ApplicationDoor::~ApplicationDoor() {
    if (!parts_) return;
    if (parts_->session) parts_->end_session();
    ::unlink(parts_->options.path.c_str());
}

void ApplicationDoor::serve() noexcept {
    if (parts_->session) parts_->take_released();
    parts_->show_if_enough();
    if (Clock::now() - parts_->looked >= look_interval) parts_->look_who_comes_and_goes();
}

bool ApplicationDoor::has_room() const noexcept {
    return parts_->session && parts_->session->end.room() >= burst_parts;
}

bool ApplicationDoor::show(const Frame& frame) noexcept {
    if (!parts_->session || parts_->session->end.room() < frame.parts) return false;
    Session& session = *parts_->session;
    const std::byte* const region = parts_->port.region().data();
    for (std::uint16_t index = 0; index < frame.parts; ++index) {
        const auto part = index == 0 ? frame.bytes : parts_->port.part(frame, index);
        const std::uint32_t more = index + 1 < frame.parts ? ShownPart::next : 0;
        session.end.stage({static_cast<std::uint64_t>(part.data() - region), static_cast<std::uint32_t>(part.size()),
                           more | (index == 0 ? flags_of(frame) : 0)});
    }
    session.held[session.newest++ & (parts_->options.entries - 1)] = {frame, session.end.staged_until()};
    parts_->gathered_bytes += frame.length_bytes;
    parts_->last_gathered = Clock::now();
    parts_->moved = true;
    ++parts_->counts.frames;
    const std::uint32_t wanted = session.end.gather_bytes();
    if (wanted != 0 && parts_->gathered_bytes >= wanted) parts_->show();
    return true;
}

void ApplicationDoor::flush() noexcept {
    parts_->show();
}

void ApplicationDoor::wait(nanoseconds limit) noexcept {
    parts_->show_if_enough();
    const Clock::time_point now = Clock::now();
    if (parts_->moved) {
        parts_->moved = false;
        parts_->last_moved = now;
        parts_->nap = shortest_nap;
    }
    if (now - parts_->last_moved < spin_time) {
        parts_->port.flush();
        __builtin_ia32_pause();
        return;
    }
    if (parts_->session && parts_->session->newest != parts_->session->oldest) {
        limit = std::min(limit, parts_->nap);
        parts_->nap = std::min(2 * parts_->nap, longest_nap);
    }
    if (has_room()) {
        parts_->port.wait(limit, parts_->comings.get());
    } else {  // frames of the port would wake us, and can wait
        parts_->port.flush();
        pollfd entry{parts_->comings.get(), POLLIN, 0};
        const timespec timeout = guest::to_timespec(limit);
        ::ppoll(&entry, 1, &timeout, nullptr);
    }
    parts_->look_who_comes_and_goes();
}

ApplicationDoor::Statistics ApplicationDoor::statistics() const noexcept {
    Statistics counts = parts_->counts;
    counts.frames_held = parts_->session ? parts_->session->newest - parts_->session->oldest : 0;
    return counts;
}

}  // namespace vitrine
