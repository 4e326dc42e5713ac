/// An application that writes what it likes into its header page, and an owner that does: neither may make the other
/// read outside its memory, the owner gives every frame back once and in order or not at all, and the application sees
/// only bytes of packet pages.

#include <vector>

#include "apps/guest/shown_frames.hpp"
#include "mem/region_layout.hpp"
#include "tests/fuzz/input.hpp"

using namespace vitrine;
using fuzz::check;
using fuzz::Input;
using guest::HeaderPage;

namespace {

constexpr std::uint32_t entries = HeaderPage::fewest_entries;
constexpr mem::RegionLayout layout = mem::region_layout(16, 2048, 4096);

/// Where a store hurts most, or anywhere.
void store(std::vector<std::byte>& page, Input& input) {
    constexpr std::size_t places[] = {64, 68, 128, 132, 136};
    const unsigned which = input.below(8);
    const std::size_t place =
        which < 5 ? places[which]
                  : (which == 5 ? 4096 + 4 * input.byte() : input.take<std::uint16_t>() % (page.size() - 4));
    const std::uint32_t value = which < 5 && input.below(2) == 0 ? input.byte() : input.take<std::uint32_t>();
    std::memcpy(page.data() + place, &value, sizeof(value));
}

void read(guest::ShownFrames& application, const std::vector<std::byte>& region) {
    std::size_t parts = 0;
    for (const Frame& frame : application.receive()) {
        check(!frame.bytes.empty() && frame.length_bytes >= frame.bytes.size() && frame.parts != 0);
        for (std::size_t index = 0; index < frame.parts; ++index, ++parts) {
            const auto bytes = application.part(frame, index);  // the owner may have changed the entry
            if (bytes.empty()) continue;
            check(bytes.data() >= region.data() + layout.pages_offset &&
                  bytes.data() + bytes.size() <= region.data() + region.size());
        }
        check(frame.bytes.front() == std::byte{0} && frame.bytes.back() == std::byte{0});
    }
    check(parts <= entries);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::vector<std::byte> region(layout.region_bytes);
    Input input(data, size);
    std::vector<std::byte> page(guest::header_page_bytes(entries));
    guest::ShowingEnd owner(page, entries, 0, {});
    guest::ShownFrames application(page, entries, region, layout);
    std::uint32_t shown = 0;
    bool expelled = false;
    while (!input.empty()) {
        switch (input.below(6)) {
            case 0:
                for (unsigned count = input.byte(); count != 0 && owner.room() != 0; --count)
                    owner.stage({layout.pages_offset + input.take<std::uint16_t>(), 1u + input.byte(),
                                 count == 1 ? 0u : input.below(8)});
                break;
            case 1:
                owner.show();
                shown = owner.staged_until();
                break;
            case 2: {
                const std::uint32_t before = owner.released_until();
                expelled |= !owner.take_released();
                check(owner.released_until() - before <= shown - before);
                check(!expelled || owner.room() <= entries);
                break;
            }
            case 3:
                read(application, region);
                break;
            case 4:
                application.release(input.byte());
                break;
            default:
                store(page, input);
        }
        check(owner.room() <= entries);
    }
    return 0;
}
