#pragma once

#include <cstring>
#include <deque>
#include <fcntl.h>
#include <optional>
#include <set>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "apps/guest/packed_pages_port.hpp"
#include "mem/mapping.hpp"
#include "mem/region_layout.hpp"
#include "tests/apps/guest_fake_packed_device.hpp"
#include "tests/support/directory.hpp"
#include "virtio/packed_vrx.hpp"

namespace vitrine::guest {

namespace vrx = virtio::vrx;
using virtio::PackedDescriptor;

/// A region in a file, which the device writes and the guest does not.
struct FakeRegion {
    explicit FakeRegion(std::uint32_t page_bytes, std::uint32_t held_limit)
        : layout(mem::region_layout(least_pages, page_bytes, mem::info_page_bytes)),
          file(mem::open(directory / "pages", O_CREAT | O_RDWR, 0600)) {
        REQUIRE(::ftruncate(file.get(), static_cast<off_t>(layout.region_bytes)) == 0);
        mapping = mem::Mapping(file.get(), layout.region_bytes, 0, mem::Access::read_write);
        mem::InfoPage info{};
        info.magic = mem::InfoPage::magic_number;
        info.version = mem::InfoPage::version_number;
        info.info_bytes = sizeof(info);
        info.modes = mem::InfoPage::offers_packed_pages | mem::InfoPage::has_header_table;
        info.header_stride = mem::header_slot_bytes;
        info.queue_pairs = 1;
        info.instance = {1, 2, 3, 4};
        info.page_bytes = page_bytes;
        info.page_count = static_cast<std::uint32_t>(layout.page_count);
        info.pages_offset = layout.pages_offset;
        info.headers_offset = layout.headers_offset;
        info.held_limit = held_limit;
        std::memcpy(mapping.data(), &info, sizeof(info));
    }
    std::byte* page(std::uint16_t page) const {
        return mapping.data() + layout.pages_offset + page * layout.page_bytes;
    }

    static constexpr std::size_t least_pages = 100;

    test::Directory directory{test::in_memory};
    mem::RegionLayout layout;
    mem::FileDescriptor file;
    mem::Mapping mapping;
};

/// The device's side of section 9 as it is written there.
class LendingDevice {
public:
    LendingDevice(GuestRam& ram, PackedPagesPort& port, const FakeRegion& region, std::uint32_t held_limit)
        : ring(ram, port), region_(region), entries_(port.entries()), held_limit_(held_limit) {
        for (std::uint16_t page = 0; page < region.layout.page_count; ++page) free_.push_back(page);
    }

    /// 9.1. Nothing: the driver has not asked.
    std::optional<PackedDescriptor> read_marker() {
        const auto marker = ring.next();
        if (!marker) return std::nullopt;
        REQUIRE(marker->descriptors.size() == 1);
        most_pages_ = marker->descriptors[0].length_bytes >> 16;
        return marker->descriptors[0];
    }
    void answer(vrx::Answer answer) { ring.use_id(vrx::PackedMarker::id, answer.raw, PackedDescriptor::device_writes); }
    void grant() {
        REQUIRE(read_marker());
        answer(vrx::Answer::granted(vrx::Mode::pages));
    }

    /// 9.2 and 4.4. Returns how many credits came. `driver_knows`: it has seen all that was used, so that its slots can
    /// be counted from here.
    std::size_t absorb(bool driver_knows = true) {
        std::size_t credits = 0;
        for (; const auto credit = ring.next(); ++credits) {
            CHECK(credit->descriptors.size() == 1);
            const PackedDescriptor& descriptor = credit->descriptors[0];
            CHECK(descriptor.flags == PackedDescriptor::device_writes);
            CHECK(descriptor.length_bytes == 0);
            CHECK(descriptor.id == 0);
            unsigned returns = 0;
            for (unsigned index = 0; index < vrx::returns_per_descriptor; ++index) {
                const std::uint16_t page = vrx::returned_page(descriptor.address, index);
                if (page == vrx::no_page) continue;
                const bool was_lent = lent_.erase(page) == 1;
                CHECK(was_lent);
                if (!was_lent) continue;
                free_.push_back(page);
                ++returns;
            }
            const std::uint32_t free_slots = entries_ + 1u - ring.available.from(ring.used, entries_);
            const bool of_the_last = free_slots <= vrx::reserved_slots(most_pages_);
            if (driver_knows && of_the_last) CHECK((returns == vrx::returns_per_descriptor || lent_.empty()));
            returned_.push_back(returns);
        }
        return credits;
    }
    std::size_t credits() const { return ring.available.from(ring.used, entries_); }

    /// Lends a frame whose bytes are its number, if credits and limit allow it.
    bool deliver(std::uint32_t number, std::size_t parts = 1, std::uint32_t flags = 0) {
        absorb(false);
        if (credits() < parts || lent_.size() + parts > held_limit_) return false;
        std::vector<PackedDescriptor> used;
        for (std::size_t part = 0; part < parts; ++part) {
            const std::uint16_t page = free_.front();
            free_.pop_front();
            lent_.insert(page);
            std::memcpy(region_.page(page) + 32, &number, sizeof(number));
            const std::uint32_t next = part + 1 == parts ? 0 : vrx::PackedUsed::next;
            used.push_back({.address = vrx::PackedUsed::address_of(32, next | (part == 0 ? flags : 0)),
                            .length_bytes = static_cast<std::uint32_t>(64 + part),
                            .id = page,
                            .flags = PackedDescriptor::device_writes});
        }
        for (std::size_t part = parts; part-- > 0;)  // the first one's flags last
            ring.write_used_at(ring.used.after(static_cast<std::uint32_t>(part), entries_), used[part]);
        ring.used = ring.used.after(static_cast<std::uint32_t>(parts), entries_);
        return true;
    }
    std::size_t lent() const { return lent_.size(); }
    std::uint32_t most_pages_of_frame() const { return most_pages_; }
    /// How many pages each credit returned, since the last time.
    std::vector<unsigned> take_returned() { return std::exchange(returned_, {}); }

    FakePackedDevice ring;

private:
    const FakeRegion& region_;
    std::uint16_t entries_;
    std::uint32_t held_limit_;
    std::uint32_t most_pages_ = 0;
    std::deque<std::uint16_t> free_;
    std::set<std::uint16_t> lent_;
    std::vector<unsigned> returned_;
};

/// Port, device and the region between them.
struct PackedPortBench {
    explicit PackedPortBench(const PackedPagesPort::Config& wanted, std::uint32_t page_bytes = 2048,
                             std::uint32_t most_lent = 40)
        : config(wanted), held_limit(most_lent), region(page_bytes, most_lent) {}
    explicit PackedPortBench(std::uint16_t entries = 16)
        : PackedPortBench(PackedPagesPort::Config{.entries = entries}) {}

    void open() {
        port.start();
        device.grant();
        CHECK(port.receive().empty());
        port.flush();
        device.absorb();
        device.take_returned();
    }
    /// So many frames of one page, and all of them received.
    std::vector<LentFrame> lend(unsigned count) {
        for (unsigned number = 0; number < count; ++number) REQUIRE(device.deliver(number));
        const auto frames = port.receive();
        REQUIRE(frames.size() == count);
        return {frames.begin(), frames.end()};
    }
    /// What flush() makes of the credits: how many pages each returns.
    std::vector<unsigned> flush() {
        port.flush();
        device.absorb();
        return device.take_returned();
    }
    static std::uint32_t number_of(std::span<const std::byte> bytes) {
        std::uint32_t number = 0;
        std::memcpy(&number, bytes.data(), sizeof(number));
        return number;
    }

    PackedPagesPort::Config config;
    std::uint32_t held_limit;
    FakeRegion region;
    GuestRam ram{1 << 20, mem::Backing::small_only};
    PageRegion seen{region.file};
    PackedPagesPort port{ram, seen, config};
    LendingDevice device{ram, port, region, held_limit};
};

}  // namespace vitrine::guest
