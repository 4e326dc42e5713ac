#include "mem/region_layout.hpp"

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

constexpr std::size_t mib = 1 << 20;

InfoPage sound_info(const RegionLayout& layout) {
    InfoPage info{};
    info.magic = InfoPage::magic_number;
    info.version = InfoPage::version_number;
    info.info_bytes = sizeof(InfoPage);
    info.header_stride = header_slot_bytes;
    info.queue_pairs = 1;
    info.page_bytes = static_cast<std::uint32_t>(layout.page_bytes);
    info.page_count = static_cast<std::uint32_t>(layout.page_count);
    info.pages_offset = layout.pages_offset;
    info.headers_offset = layout.headers_offset;
    return info;
}

}  // namespace

TEST_CASE("VRX 2.1: a region is a power of two in size, and its parts fill it without overlap") {
    for (const std::size_t page_bytes : {2048u, 16384u, 65536u})
        for (const std::size_t file_page_bytes : {std::size_t{4096}, 2 * mib, 1024 * mib})
            for (std::size_t wanted = 1; wanted <= 70'000; wanted = wanted * 3 + 1) {
                CAPTURE(page_bytes);
                CAPTURE(wanted);
                const RegionLayout layout = region_layout(wanted, page_bytes, file_page_bytes);
                CHECK(std::has_single_bit(layout.region_bytes));
                CHECK(layout.page_count >= (wanted < most_region_pages ? wanted : most_region_pages));
                CHECK(layout.page_count <= most_region_pages);
                CHECK(layout.pages_offset % file_page_bytes == 0);
                CHECK(layout.pages_offset >= layout.headers_offset + layout.page_count * header_slot_bytes);
                CHECK(layout.pages_offset + layout.page_count * page_bytes <= layout.region_bytes);
                const auto seen = check_region(sound_info(layout), layout.region_bytes);
                REQUIRE(seen.has_value());
                CHECK(*seen == layout);
            }
}

TEST_CASE("VRX 2.2: a driver refuses a region whose info page is unsound") {
    const RegionLayout layout = region_layout(1000, 2048, 4096);
    const auto refused = [&](auto change) {
        InfoPage info = sound_info(layout);
        change(info);
        return !check_region(info, layout.region_bytes).has_value();
    };
    CHECK_FALSE(refused([](InfoPage&) {}));
    CHECK_FALSE(refused([](InfoPage& info) { info.headers_offset = 0; }));
    CHECK(refused([](InfoPage& info) { info.magic ^= 1; }));
    CHECK(refused([](InfoPage& info) { info.version = 2; }));
    CHECK(refused([](InfoPage& info) { info.info_bytes = 639; }));
    CHECK(refused([](InfoPage& info) { info.queue_pairs = 0; }));
    CHECK(refused([](InfoPage& info) { info.queue_pairs = 129; }));
    CHECK(refused([](InfoPage& info) { info.page_bytes = 1024; }));
    CHECK(refused([](InfoPage& info) { info.page_bytes = 3000; }));
    CHECK(refused([](InfoPage& info) { info.page_bytes = 1u << 17; }));
    CHECK(refused([](InfoPage& info) { info.page_count = 0; }));
    CHECK(refused([](InfoPage& info) { info.page_count = 65536; }));
    CHECK(refused([](InfoPage& info) { info.page_count = 60'000; }));
    CHECK(refused([](InfoPage& info) { info.pages_offset = 0; }));
    CHECK(refused([](InfoPage& info) { info.pages_offset += 1024; }));
    CHECK(refused([](InfoPage& info) { info.pages_offset = ~std::uint64_t{0} - 4095; }));
    CHECK(refused([](InfoPage& info) { info.headers_offset = 64; }));
    CHECK(refused([](InfoPage& info) { info.headers_offset = info.pages_offset; }));
    CHECK(refused([](InfoPage& info) { info.headers_offset = ~std::uint64_t{0} - 31; }));
    CHECK(refused([](InfoPage& info) { info.header_stride = 24; }));
}
