#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "tests/support/guest_ring.hpp"
#include "virtio/packed_ring.hpp"

namespace vitrine::test {

/// The driver side of PAGES on one packed ring (docs/vrx.md, 9), as strict as a driver may be. It counts slots and laps
/// by itself. It asserts nothing: the first breach of the device's is kept in `breach`.
class PackedVrxDriver {
public:
    struct Element {
        std::uint16_t page;
        std::uint32_t offset;
        std::uint32_t length_bytes;
        bool header;
        bool checksum_ok;
    };
    static constexpr std::uint16_t lap_bit = 1u << 15;
    static constexpr std::uint16_t marker_id = 0xfffe;

    /// The ring lies at `offset` of `ram`, event areas behind it.
    PackedVrxDriver(GuestRam& ram, std::uint64_t offset, std::uint16_t entries, std::size_t pages,
                    std::uint32_t page_bytes)
        : ram_(ram), offset_(offset), entries_(entries), page_bytes_(page_bytes), holds_(pages, false) {}

    std::uint64_t driver_area() const { return (offset_ + 16u * entries_ + 63) & ~std::uint64_t{63}; }
    std::uint64_t device_area() const { return driver_area() + 64; }

    /// 9.1: a zeroed ring, then a marker in its first slot.
    void start(const virtio::PackedDescriptor& marker) {
        zero();
        most_pages_ = marker.length_bytes >> 16;
        write(posted_++, marker.address, marker.length_bytes, marker.id, marker.flags);
        kick_if_wanted();
    }
    /// What every driver does at its start, VRX or not.
    void zero() {
        std::memset(ram_.at(offset_), 0, device_area() + 64 - offset_);
        posted_ = seen_ = 0;
        holds_.assign(holds_.size(), false);
        held_ = 0;
        answer_.reset();
    }

    std::uint32_t free_slots() const { return entries_ - (posted_ - seen_); }
    std::uint32_t reserve() const { return (most_pages_ + 3) / 4; }
    std::size_t held() const { return held_; }
    bool holds(std::uint16_t page) const { return holds_[page]; }
    /// 9.2: the last slots are for descriptors that return four pages, or all.
    bool may_give(std::size_t returns) const {
        return free_slots() > reserve() || (free_slots() > 0 && (returns == 4 || returns == held_));
    }
    /// 9.2: a credit that returns these.
    void give(std::span<const std::uint16_t> returns = {}) {
        expect(may_give(returns.size()), "the test's driver breaks its own rule");
        std::uint64_t address = ~std::uint64_t{0};
        for (std::size_t i = 0; i < returns.size(); ++i) {
            address &= ~(std::uint64_t{0xffff} << (16 * i));
            address |= std::uint64_t{returns[i]} << (16 * i);
            expect(holds_[returns[i]], "the test's driver returns what it does not hold");
            holds_[returns[i]] = false;
            --held_;
        }
        give_raw(address);
    }
    void give(std::initializer_list<std::uint16_t> returns) { give(std::span(returns.begin(), returns.size())); }
    void give_all() {
        while (may_give(0)) give();
    }
    /// Any available descriptor.
    void give_raw(std::uint64_t address, std::uint32_t length_bytes = 0, std::uint16_t id = 0,
                  std::uint16_t flags = virtio::PackedDescriptor::device_writes) {
        expect(free_slots() > 0, "the test's driver writes into slots that are the device's");
        write(posted_++, address, length_bytes, id, flags);
        kick_if_wanted();
    }

    bool has_used() const { return posted_ != seen_ && is_used(seen_); }
    /// The answer to the marker, once it is there.
    std::optional<virtio::vrx::Answer> take_answer() {
        if (answer_ || !has_used()) return answer_;
        const virtio::PackedDescriptor used = read(seen_++);
        expect(used.address == 0 && used.id == marker_id && used.length_bytes <= 0xff, "an answer of another shape");
        expect((used.flags & 0x7f7f) == virtio::PackedDescriptor::device_writes, "flags of an answer");
        return answer_ = virtio::vrx::Answer{static_cast<std::uint8_t>(used.length_bytes)};
    }
    /// 9.3: the next frame, checked, its pages held from now on; none when there is no news.
    std::vector<Element> take() {
        std::vector<Element> frame;
        if (!has_used() || take_answer() != virtio::vrx::Answer::granted(virtio::vrx::Mode::pages)) return frame;
        for (bool more = has_used(); more;) {
            expect(has_used(), "the first of a frame was shown before the rest");
            if (!has_used()) return frame;
            const virtio::PackedDescriptor used = read(seen_++);
            const auto flags = static_cast<std::uint32_t>(used.address >> 16 & 0xffff);
            const Element element{.page = used.id,
                                  .offset = static_cast<std::uint32_t>(used.address & 0xffff),
                                  .length_bytes = used.length_bytes,
                                  .header = (flags & 2) != 0,
                                  .checksum_ok = (flags & 4) != 0};
            more = (flags & 1) != 0;
            expect(used.address >> 32 == 0 && flags < 8, "bits of addr that are to be zero");
            expect((used.flags & 0x7f7f) == virtio::PackedDescriptor::device_writes, "flags of an element");
            expect(frame.empty() || flags <= 1, "HEADER or CHECKSUM_OK behind the first element");
            expect(element.length_bytes >= 1 && element.offset + element.length_bytes <= page_bytes_,
                   "bytes outside of the page");
            expect(element.page < holds_.size(), "no such page");
            if (element.page >= holds_.size()) return frame;
            expect(!holds_[element.page], "a page was lent that is held");
            if (!holds_[element.page]) ++held_;
            holds_[element.page] = true;
            frame.push_back(element);
        }
        expect(frame.size() <= most_pages_, "a longer frame than the driver is prepared for");
        return frame;
    }

    /// Asks for a call and sleeps; true if there is nothing new by then. Slots of a frame that comes next are behind
    /// seen, so that is the one to wait for.
    bool sleep(bool at_position) {
        set_events(at_position ? 2 : 0, place(seen_));
        return !has_used();
    }
    void set_events(std::uint16_t flags, std::uint16_t position = 0) {
        word(driver_area()).store(position | std::uint32_t{flags} << 16);
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }
    bool device_wants_kick() const { return word(device_area()).load() >> 16 != 1; }

    /// Wrap counter in bit 15.
    std::uint16_t posted() const { return place(posted_); }
    std::uint16_t seen() const { return place(seen_); }
    /// Slots between what the driver has seen and this place.
    std::uint32_t ahead_of_seen(std::uint16_t where) const {
        for (std::uint32_t count = seen_; count <= seen_ + entries_; ++count)
            if (place(count) == where) return count - seen_;
        return ~0u;
    }
    std::uint32_t posted_ahead() const { return posted_ - seen_; }
    virtio::PackedDescriptor descriptor(std::uint32_t slot) const { return read(slot); }
    std::byte* ring() const { return ram_.at(offset_); }

    void expect(bool holds, const char* what) {
        if (!holds && breach.empty()) breach = what;
    }

    std::string breach;
    mem::EventFd kick;
    mem::EventFd call;
    mem::EventFd error;

private:
    /// Laps are counted from 0, whose wrap counter is 1.
    bool wrap(std::uint32_t count) const { return count / entries_ % 2 == 0; }
    std::uint16_t place(std::uint32_t count) const {
        return static_cast<std::uint16_t>(count % entries_ | (wrap(count) ? lap_bit : 0));
    }
    std::byte* at(std::uint32_t count) const { return ram_.at(offset_ + 16u * (count % entries_)); }
    std::atomic_ref<std::uint32_t> word(std::uint64_t offset) const {
        return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(ram_.at(offset)));
    }
    std::atomic_ref<std::uint16_t> flags(std::uint32_t count) const {
        return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(at(count) + 14));
    }
    bool is_used(std::uint32_t count) const {
        return (flags(count).load(std::memory_order_acquire) & 0x8080) == (wrap(count) ? 0x8080 : 0);
    }
    virtio::PackedDescriptor read(std::uint32_t count) const {
        virtio::PackedDescriptor copy;
        std::memcpy(&copy, at(count), sizeof(copy));
        return copy;
    }
    void write(std::uint32_t count, std::uint64_t address, std::uint32_t length_bytes, std::uint16_t id,
               std::uint16_t more_flags) {
        const virtio::PackedDescriptor made{.address = address, .length_bytes = length_bytes, .id = id, .flags = 0};
        std::memcpy(at(count), &made, 14);
        flags(count).store(static_cast<std::uint16_t>(more_flags | (wrap(count) ? 0x80 : 0x8000)),
                           std::memory_order_release);
    }
    void kick_if_wanted() {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (device_wants_kick()) kick.signal();
    }

    GuestRam& ram_;
    std::uint64_t offset_;
    std::uint16_t entries_;
    std::uint32_t page_bytes_;
    std::vector<bool> holds_;
    std::size_t held_ = 0;
    std::uint32_t most_pages_ = 0;
    std::uint32_t posted_ = 0;  ///< slots since the start, and so is `seen`
    std::uint32_t seen_ = 0;
    std::optional<virtio::vrx::Answer> answer_;
};

}  // namespace vitrine::test
