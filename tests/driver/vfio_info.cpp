#include "driver/vfio_info.hpp"

#include <cstring>
#include <linux/vfio.h>
#include <system_error>

#include <doctest/doctest.h>

using namespace vitrine::driver;

namespace {

/// An answer as the kernel lays it out: a fixed part, and capabilities behind it.
class Answer {
public:
    template <class T>
    std::size_t append(const T& value) {
        const std::size_t at = bytes_.size();
        bytes_.resize(at + sizeof(T));
        std::memcpy(bytes_.data() + at, &value, sizeof(T));
        return at;
    }
    std::span<const std::byte> bytes() const { return bytes_; }
    std::span<std::byte> bytes() { return bytes_; }

private:
    std::vector<std::byte> bytes_;
};

constexpr std::uint32_t iommu_caps_at = sizeof(vfio_iommu_type1_info);

Answer iommu_answer(std::uint32_t cap_offset) {
    Answer answer;
    answer.append(vfio_iommu_type1_info{.argsz = 0,
                                        .flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
                                        .iova_pgsizes = 0x4020'1000,
                                        .cap_offset = cap_offset});
    return answer;
}

vfio_info_cap_header header(unsigned id, std::uint32_t next) {
    return {.id = static_cast<std::uint16_t>(id), .version = 1, .next = next};
}

struct IovaRangeCap {
    vfio_info_cap_header head;
    std::uint32_t ranges;
    std::uint32_t reserved = 0;
};
struct MapsLeftCap {
    vfio_info_cap_header head;
    std::uint32_t left;
};
struct SparseCap {
    vfio_info_cap_header head;
    std::uint32_t areas;
    std::uint32_t reserved = 0;
};

constexpr std::uint32_t region_flags =
    VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP;

Answer region_answer(std::uint32_t flags, std::uint32_t cap_offset) {
    Answer answer;
    answer.append(vfio_region_info{
        .argsz = 0, .flags = flags, .index = 0, .cap_offset = cap_offset, .size = 0x4000, .offset = 0x100'0000});
    return answer;
}

}  // namespace

TEST_CASE("an IOMMU's ranges and its limit of mappings are read, in whatever order they come") {
    const std::uint32_t second = iommu_caps_at + sizeof(MapsLeftCap) + sizeof(vfio_info_cap_header);
    Answer answer = iommu_answer(iommu_caps_at);
    answer.append(MapsLeftCap{header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, second), 65535});
    answer.append(header(77, 0));  // unknown, and not in the chain
    answer.append(IovaRangeCap{header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0), 2});
    answer.append(vfio_iova_range{0, 0xfedf'ffff});
    answer.append(vfio_iova_range{0xfef0'0000, 0xffff'ffff'ffff});
    const IommuInfo info = parse_iommu_info(answer.bytes());
    CHECK(info.page_sizes == 0x4020'1000);
    CHECK(info.maps_left == 65535);
    CHECK(info.ranges == std::vector<IovaRange>{{0, 0xfedf'ffff}, {0xfef0'0000, 0xffff'ffff'ffff}});
}

TEST_CASE("a kernel that lists no ranges leaves 39 bits without the interrupt window") {
    const IommuInfo info = parse_iommu_info(iommu_answer(0).bytes());
    CHECK_FALSE(info.maps_left.has_value());
    CHECK(info.ranges == std::vector<IovaRange>{{0, 0xfedf'ffff}, {0xfef0'0000, 0x7f'ffff'ffff}});
}

TEST_CASE("an answer that is cut off anywhere, or that runs in circles, is refused") {
    Answer answer = iommu_answer(iommu_caps_at);
    answer.append(IovaRangeCap{header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0), 1});
    answer.append(vfio_iova_range{0, 0xfedf'ffff});
    CHECK_NOTHROW(parse_iommu_info(answer.bytes()));
    for (std::size_t length = 0; length < answer.bytes().size(); ++length)
        CHECK_THROWS_AS(parse_iommu_info(answer.bytes().first(length)), std::system_error);

    Answer circle = iommu_answer(iommu_caps_at);
    circle.append(header(77, iommu_caps_at));
    CHECK_THROWS_AS(parse_iommu_info(circle.bytes()), std::system_error);

    Answer backwards = iommu_answer(iommu_caps_at);
    backwards.append(IovaRangeCap{header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0), 1});
    backwards.append(vfio_iova_range{2, 1});
    CHECK_THROWS_AS(parse_iommu_info(backwards.bytes()), std::system_error);
}

TEST_CASE("a region is mappable whole, in its sparse areas alone, or not at all") {
    CHECK(parse_region_info(region_answer(region_flags, 0).bytes()).mappable == std::vector<RegionArea>{{0, 0x4000}});
    CHECK(parse_region_info(region_answer(VFIO_REGION_INFO_FLAG_READ, 0).bytes()).mappable.empty());

    Answer sparse = region_answer(region_flags | VFIO_REGION_INFO_FLAG_CAPS, sizeof(vfio_region_info));
    sparse.append(SparseCap{header(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0), 1});
    sparse.append(vfio_region_sparse_mmap_area{0x1000, 0x2000});
    const Region region = parse_region_info(sparse.bytes());
    CHECK(region.mappable == std::vector<RegionArea>{{0x1000, 0x2000}});
    CHECK(region.bytes == 0x4000);
    CHECK(region.file_offset == 0x100'0000);
    CHECK(region.readable);
    CHECK(region.writable);
}

TEST_CASE("a mappable area beyond its region is refused") {
    for (const vfio_region_sparse_mmap_area area :
         {vfio_region_sparse_mmap_area{0x4000, 1}, vfio_region_sparse_mmap_area{0x1000, ~std::uint64_t{0}}}) {
        Answer sparse = region_answer(region_flags | VFIO_REGION_INFO_FLAG_CAPS, sizeof(vfio_region_info));
        sparse.append(SparseCap{header(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0), 1});
        sparse.append(area);
        CHECK_THROWS_AS(parse_region_info(sparse.bytes()), std::system_error);
    }
}
