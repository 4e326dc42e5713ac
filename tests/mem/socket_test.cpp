#include "mem/socket.hpp"

#include <array>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/directory.hpp"

using namespace vitrine::mem;
namespace test = vitrine::test;
using namespace std::chrono_literals;

namespace {

struct SocketPair {
    FileDescriptor left, right;
    explicit SocketPair(int type = SOCK_STREAM) {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
        left = FileDescriptor(ends[0]);
        right = FileDescriptor(ends[1]);
    }
};

std::error_code failure_of(auto&& action) {
    try {
        action();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

struct TemporaryPath {
    test::Directory directory;
    std::string path() const { return directory / "socket"; }
};

}  // namespace

TEST_CASE("descriptors travel with the first byte and refer to the same file") {
    SocketPair pair;
    const EventFd event;
    const std::array<int, 2> passed{event.get(), event.get()};
    const std::string text = "hello";
    send_all(pair.left.get(), std::as_bytes(std::span(text)), passed, 5s);

    std::array<std::byte, 5> bytes;
    std::vector<FileDescriptor> got;
    REQUIRE(receive_exact(pair.right.get(), bytes, got, 5s));
    REQUIRE(got.size() == 2);
    event.signal();
    CHECK(drain_event(got[1].get()));
}

TEST_CASE("reading an eventfd never waits, even if a peer that shares it made it blocking") {
    const EventFd event;
    REQUIRE(::fcntl(event.get(), F_SETFL, 0) == 0);
    CHECK_FALSE(drain_event(event.get()));
    event.signal();
    CHECK(drain_event(event.get()));
    CHECK_FALSE(drain_event(event.get()));
}

TEST_CASE("an end before a message is orderly, an end inside is not") {
    SocketPair pair;
    std::array<std::byte, 4> bytes{};
    std::vector<FileDescriptor> got;
    send_all(pair.left.get(), std::span(bytes).first(2), {}, 5s);
    pair.left.close();
    CHECK(failure_of([&] { receive_exact(pair.right.get(), bytes, got, 5s); }) == std::errc::connection_reset);
    CHECK_FALSE(receive_exact(pair.right.get(), bytes, got, 5s));
}

TEST_CASE("a peer that stops inside a message, or never reads, meets the limit") {
    SocketPair pair;
    std::array<std::byte, 4> bytes{};
    std::vector<FileDescriptor> got;
    send_all(pair.left.get(), std::span(bytes).first(1), {}, 5s);
    CHECK(failure_of([&] { receive_exact(pair.right.get(), bytes, got, 1ms); }) == std::errc::timed_out);
    const std::vector<std::byte> flood(16 << 20);
    CHECK(failure_of([&] { send_all(pair.left.get(), flood, {}, 1ms); }) == std::errc::timed_out);
}

TEST_CASE("a gone peer is an error, not a signal") {
    SocketPair pair;
    pair.right.close();
    const std::array<std::byte, 1> byte{};
    CHECK(failure_of([&] { send_all(pair.left.get(), byte, {}, 5s); }) == std::errc::broken_pipe);
}

TEST_CASE("a stale socket file is replaced, a live one is not, and a missing directory is named") {
    TemporaryPath place;
    {
        const FileDescriptor dead = listen_unix(place.path());
    }
    const FileDescriptor live = listen_unix(place.path());
    CHECK(failure_of([&] { listen_unix(place.path()); }) == std::errc::address_in_use);
    const FileDescriptor client = connect_unix(place.path());
    CHECK(accept_unix(live.get()));  // the second listener's probe
    CHECK(accept_unix(live.get()));
    CHECK_FALSE(accept_unix(live.get()));
    try {
        listen_unix("/nowhere/at/all/socket");
        FAIL("listened in a directory that does not exist");
    } catch (const std::system_error& error) {
        CHECK(std::string(error.what()).find("/nowhere/at/all/socket") != std::string::npos);
    }
    CHECK(failure_of([&] { listen_unix(std::string(200, 'x')); }) == std::errc::filename_too_long);
}

TEST_CASE("a listener behind whom many wait is live too, and asking does not wait with them") {
    TemporaryPath place;
    const FileDescriptor live = listen_unix(place.path());
    std::vector<FileDescriptor> waiting;
    while (failure_of([&] { waiting.push_back(connect_unix(place.path())); }) == std::error_code()) {
    }
    CHECK(failure_of([&] { listen_unix(place.path()); }) == std::errc::address_in_use);
}

TEST_CASE("a file that is no socket is left alone, and named") {
    TemporaryPath place;
    {
        std::ofstream(place.path()) << "mine";
    }
    CHECK(failure_of([&] { listen_unix(place.path()); }) == std::errc::file_exists);
    CHECK(std::filesystem::file_size(place.path()) == 4);
}

TEST_CASE("closing is exactly once: a moved descriptor is closed by its last owner") {
    SocketPair pair(SOCK_SEQPACKET);
    const int number = pair.left.get();
    {
        FileDescriptor moved = std::move(pair.left);
        CHECK_FALSE(pair.left);
        CHECK(moved.get() == number);
    }
    std::array<std::byte, 1> byte;
    CHECK(::recv(pair.right.get(), byte.data(), 1, MSG_DONTWAIT) == 0);
}
