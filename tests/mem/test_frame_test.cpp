#include "mem/test_frame.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

constexpr EthernetAddress destination{2, 0, 0, 0, 0, 1};
constexpr EthernetAddress source{2, 0, 0, 0, 0, 2};

std::vector<std::byte> frame_of(std::size_t bytes, Stamp stamp) {
    std::vector<std::byte> frame(bytes);
    write_test_frame(frame, destination, source, stamp);
    return frame;
}

}  // namespace

TEST_CASE("a stamped frame of any size proves itself") {
    for (const std::size_t bytes : {60u, 61u, 1514u, 9014u}) {
        const auto frame = frame_of(bytes, {7, 0x1'0000'0003});
        const auto stamp = read_test_frame(frame);
        REQUIRE(stamp.has_value());
        CHECK(stamp->flow == 7);
        CHECK(stamp->sequence == 0x1'0000'0003);
    }
}

TEST_CASE("one changed bit anywhere in a stamped frame is found") {
    const auto good = frame_of(90, {1, 2});
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        auto bad = good;
        bad[bit / 8] ^= std::byte{1} << bit % 8;
        CHECK_FALSE(read_test_frame(bad).has_value());
    }
}

TEST_CASE("a frame cut short is not taken for a whole one") {
    auto frame = frame_of(100, {1, 2});
    frame.pop_back();
    CHECK(read_test_frame(frame).error() == StampFault::bad_crc);
    frame.resize(59);
    CHECK(read_test_frame(frame).error() == StampFault::too_short);
    CHECK(read_test_frame(std::vector<std::byte>(60)).error() == StampFault::not_stamped);
}

TEST_CASE("RFC 791: the IPv4 header of a stamped frame sums to zero") {
    const auto frame = frame_of(200, {3, 4});
    std::uint32_t sum = 0;
    for (std::size_t i = 14; i < 34; i += 2)
        sum += std::to_integer<std::uint32_t>(frame[i]) << 8 | std::to_integer<std::uint32_t>(frame[i + 1]);
    CHECK((sum & 0xffff) + (sum >> 16) == 0xffff);
}

TEST_CASE("the sequence check follows each flow by itself") {
    SequenceCheck check;
    check.accept({0, 0});
    check.accept({1, 0});
    check.accept({0, 1});
    check.accept({0, 5});
    check.accept({0, 3});
    check.accept({0, 5});
    CHECK(check.in_order() == 4);
    CHECK(check.lost() == 3);
    CHECK(check.out_of_order() == 2);
}
