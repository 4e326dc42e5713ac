#include "apps/frame/joined_groups.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

/// A guest's frame, read for the groups that it reports. What comes out must be groups, and nothing beside the frame
/// may be read.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::byte> frame(size);
    if (size != 0) std::memcpy(frame.data(), data, size);
    std::array<vitrine::apps::GroupAddress, 8> groups;
    const std::size_t count = vitrine::apps::joined_groups(frame, groups);
    if (count > groups.size()) std::abort();
    for (std::size_t i = 0; i < count; ++i)
        if ((groups[i][0] & 1) == 0) std::abort();
    return 0;
}
