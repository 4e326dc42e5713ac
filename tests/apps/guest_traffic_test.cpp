#include <array>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/traffic.hpp"
#include "tests/support/directory.hpp"

using namespace vitrine;
using namespace vitrine::guest;

namespace {

constexpr mem::EthernetAddress own{2, 0, 0, 0, 0, 1};
constexpr mem::EthernetAddress peer{2, 0, 0, 0, 0, 2};

/// A file name that nobody has; the file is removed at the end.
struct TemporaryFile {
    test::Directory directory;
    std::string path = directory / "capture";
};

std::vector<std::byte> stamped(std::size_t bytes, mem::Stamp stamp) {
    std::vector<std::byte> frame(bytes);
    mem::write_test_frame(frame, own, peer, stamp);
    return frame;
}

}  // namespace

TEST_CASE("check tells a bad CRC from a missing stamp, and counts gaps and repeats") {
    Options options;
    options.mode = Mode::check;
    Receiver receiver(options);
    receiver.accept(stamped(60, {0, 0}));
    receiver.accept(stamped(60, {0, 3}));
    receiver.accept(stamped(60, {0, 1}));
    auto damaged = stamped(100, {0, 4});
    damaged[80] ^= std::byte{1};
    receiver.accept(damaged);
    receiver.accept(std::vector<std::byte>(60));
    receiver.accept(std::vector<std::byte>(20));
    const auto counts = receiver.finish();
    CHECK(counts.frames == 6);
    CHECK(counts.bytes == 360);
    CHECK(counts.lost == 2);
    CHECK(counts.out_of_order == 1);
    CHECK(counts.bad_crc == 1);
    CHECK(counts.unstamped == 2);
}

TEST_CASE("rx counts foreign frames without judging them") {
    Receiver receiver(Options{});
    receiver.accept(std::vector<std::byte>(60));
    CHECK(receiver.finish().unstamped == 0);
}

TEST_CASE("the source stamps flows in turn and ends at its count") {
    Options options;
    options.mode = Mode::tx;
    options.count = 5;
    options.flows = 2;
    options.wire_bytes = 104;
    Source source(options, own);
    std::array<std::byte, 200> buffer;
    for (const auto& [flow, sequence] : {std::pair{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 2}}) {
        const auto length_bytes = source.write_next(buffer);
        REQUIRE(length_bytes == 100);
        const auto stamp = mem::read_test_frame(std::span(buffer).first(*length_bytes));
        REQUIRE(stamp.has_value());
        CHECK(stamp->flow == flow);
        CHECK(stamp->sequence == static_cast<std::uint64_t>(sequence));
        CHECK(std::memcmp(buffer.data() + 6, own.data(), own.size()) == 0);
    }
    CHECK_FALSE(source.write_next(buffer).has_value());
}

TEST_CASE("an echo of a stamped frame is stamped anew; a damaged frame stays damaged") {
    const auto frame = stamped(80, {7, 9});
    std::array<std::byte, 80> echo;
    write_echo(frame, echo);
    const auto stamp = mem::read_test_frame(echo);
    REQUIRE(stamp.has_value());
    CHECK(stamp->flow == 7);
    CHECK(stamp->sequence == 9);
    CHECK(std::memcmp(echo.data(), peer.data(), peer.size()) == 0);
    CHECK(std::memcmp(echo.data() + 6, own.data(), own.size()) == 0);

    auto damaged = frame;
    damaged[70] ^= std::byte{1};
    write_echo(damaged, echo);
    CHECK_FALSE(mem::read_test_frame(echo).has_value());
    CHECK(std::memcmp(echo.data(), peer.data(), peer.size()) == 0);
    CHECK(std::memcmp(echo.data() + 12, damaged.data() + 12, damaged.size() - 12) == 0);
}

TEST_CASE("what is written to a capture is read back byte for byte and in order") {
    const TemporaryFile file;
    std::vector<std::vector<std::byte>> frames;
    for (const std::size_t bytes : {14u, 60u, 1514u, 9018u})
        frames.push_back(stamped(std::max(bytes, 60uz), {1, bytes}));
    frames[0].resize(14);
    {
        CaptureWriter writer(file.path);
        for (const auto& frame : frames) writer.write(frame);
        writer.finish();
    }
    CaptureReader reader(file.path);
    std::vector<std::byte> buffer(9100);
    for (const auto& frame : frames) {
        const auto length_bytes = reader.read(buffer);
        REQUIRE(length_bytes == frame.size());
        CHECK(std::memcmp(buffer.data(), frame.data(), frame.size()) == 0);
    }
    CHECK_FALSE(reader.read(buffer).has_value());
    CHECK(reader.skipped() == 0);

    CaptureReader small(file.path);
    const auto length_bytes = small.read(std::span(buffer).first(1514));
    CHECK(length_bytes == 14);
    CHECK(small.read(std::span(buffer).first(1514)) == 60);
    CHECK(small.read(std::span(buffer).first(1514)) == 1514);
    CHECK_FALSE(small.read(std::span(buffer).first(1514)).has_value());
    CHECK(small.skipped() == 1);
}

TEST_CASE("a capture that is none is an error that names the file") {
    const TemporaryFile file;
    std::ofstream(file.path) << "this is no capture";
    try {
        CaptureReader reader(file.path);
        FAIL("accepted");
    } catch (const std::runtime_error& error) {
        CHECK(std::string(error.what()).find("--pcap-in") != std::string::npos);
    }
    try {
        CaptureWriter writer("/no/such/directory/out.pcap");
        FAIL("accepted");
    } catch (const std::runtime_error& error) {
        CHECK(std::string(error.what()).find("/no/such/directory/out.pcap") != std::string::npos);
    }
}
