#include "driver/vfio_mapping.hpp"

#include <cerrno>
#include <string_view>
#include <system_error>

#include <doctest/doctest.h>

using namespace vitrine;
using driver::expect_mappable;

namespace {

const std::vector<driver::IovaRange> ranges{{0, 0xfedf'ffff}, {0xfef0'0000, 0x7f'ffff'ffff}};

int refusal(std::uint64_t iova, std::size_t bytes) {
    try {
        expect_mappable(ranges, mem::Iova{iova}, bytes);
    } catch (const std::system_error& error) {
        return error.code().value();
    }
    return 0;
}

}  // namespace

TEST_CASE("a mapping lies in one range of the IOMMU, whole, and not at 0") {
    CHECK(refusal(0x1000, 0x1000) == 0);
    CHECK(refusal(0xfedf'f000, 0x1000) == 0);
    CHECK(refusal(0x7f'ffff'f000, 0x1000) == 0);
    CHECK(refusal(0, 0x1000) == ERANGE);
    CHECK(refusal(0x1000, 0) == ERANGE);
    CHECK(refusal(0xfedf'f000, 0x1001) == ERANGE);     // into the interrupt window
    CHECK(refusal(0xfee0'0000, 0x1000) == ERANGE);     // in it
    CHECK(refusal(0xfedf'f000, 0x10'2000) == ERANGE);  // across it
    CHECK(refusal(0x7f'ffff'f000, 0x1001) == ERANGE);
    CHECK(refusal(~std::uint64_t{0} - 0xfff, 0x2000) == ERANGE);  // around the end of all addresses
}

TEST_CASE("a lack of locked memory is named with the limit and the remedy, and other errors as they are") {
    const auto text_of = [](int error) {
        try {
            driver::fail_to_map(error, "IOMMU_IOAS_MAP", 4096);
        } catch (const std::system_error& caught) {
            return std::string(caught.what());
        }
    };
    CHECK(text_of(ENOMEM).find("LimitMEMLOCK=") != std::string::npos);
    CHECK(text_of(EEXIST).find("IOMMU_IOAS_MAP of 4096 bytes") != std::string::npos);
    CHECK(text_of(EEXIST).find("LimitMEMLOCK=") == std::string::npos);
}
