#include "driver/doorbell.hpp"

#include <array>
#include <cstdio>
#include <unistd.h>

#include <doctest/doctest.h>

using vitrine::driver::Doorbell;

TEST_CASE("a doorbell of a BAR that cannot be mapped writes its one register in the device's file") {
    std::FILE* const file = std::tmpfile();
    REQUIRE(file != nullptr);
    const int device = ::fileno(file);
    REQUIRE(::ftruncate(device, 0x40) == 0);
    Doorbell doorbell(Doorbell::DeviceFile{device, 0x18});
    doorbell.ring(0x1234'5678);
    doorbell.ring(7);
    CHECK(doorbell.settled());
    std::array<std::uint32_t, 16> words{};
    REQUIRE(::pread(device, words.data(), sizeof(words), 0) == sizeof(words));
    std::array<std::uint32_t, 16> expected{};
    expected[6] = 7;
    CHECK(words == expected);
    std::fclose(file);
}
