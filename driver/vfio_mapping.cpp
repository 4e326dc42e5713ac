#include "driver/vfio_mapping.hpp"

#include <algorithm>
#include <cerrno>
#include <string>
#include <sys/resource.h>

#include "driver/failure.hpp"

namespace vitrine::driver {

bool is_inside(const std::vector<IovaRange>& ranges, mem::Iova iova, std::size_t bytes) {
    return std::ranges::any_of(ranges, [&](const IovaRange& range) {
        return iova.raw >= range.first && iova.raw <= range.last && bytes - 1 <= range.last - iova.raw;
    });
}

void expect_mappable(const std::vector<IovaRange>& ranges, mem::Iova iova, std::size_t bytes) {
    if (iova.raw == 0 || bytes == 0 || !is_inside(ranges, iova, bytes))
        fail(ERANGE, "map for DMA: the IOMMU does not take the address " + std::to_string(iova.raw));
}

/// RLIMIT_MEMLOCK is what ENOMEM means here, nearly always.
void fail_to_map(int error, const char* request, std::size_t bytes) {
    std::string attempt = std::string(request) + " of " + std::to_string(bytes) + " bytes";
    rlimit limit{};
    if (error == ENOMEM && ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        attempt += ": the limit of locked memory is " + std::to_string(limit.rlim_cur / 1024) +
                   " KiB (vitrine needs; ulimit -l, LimitMEMLOCK=)";
    fail(error, attempt);
}

}  // namespace vitrine::driver
