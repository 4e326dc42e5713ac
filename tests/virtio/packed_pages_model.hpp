#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/virtio/packed_pages_bench.hpp"

namespace vitrine::test {

/// Packed rings over which the product's device lends pages, with a pretended NIC and drivers that keep to the rule of
/// 9.2, and nothing beyond it. Device, drivers and the front-end, who stops rings and starts them, take random turns.
class PackedPagesModel {
public:
    struct Tally {
        std::uint64_t frames = 0, held_tries = 0, no_buffer_tries = 0, bad_returns = 0, broken = 0;
        std::uint64_t restarts = 0, resets = 0, dropped = 0, full = 0;
    };

    /// With `hostile` the driver of the second ring does what it likes.
    PackedPagesModel(const PackedPagesOptions& options, bool hostile, std::uint32_t seed)
        : hostile_(hostile), random_(seed), bench_(options), sides_(options.pairs) {
        arm_nic();
        for (unsigned pair = 0; pair < options.pairs; ++pair) reset_driver(pair);
    }

    void run(std::uint64_t frames) {
        unsigned idle = 0;
        while (tally.frames < frames) {
            const std::uint64_t before = tally.frames;
            turn();
            if (!breach_.empty()) FAIL(breach_);
            idle = tally.frames == before ? idle + 1 : 0;
            if (idle == 20'000) FAIL("a lost wake-up, page or slot: nothing moves any more");
        }
        settle();
        for (unsigned pair = 0; pair < bench_.options.pairs; ++pair) {
            tally.held_tries += bench_.counters(pair).rx_held_tries;
            tally.no_buffer_tries += bench_.counters(pair).rx_no_buffer_tries;
            tally.bad_returns += bench_.counters(pair).bad_returns;
            tally.broken += bench_.counters(pair).ring_broken;
        }
    }

    Tally tally;

private:
    struct Mark {
        std::uint64_t frame;
        std::uint32_t part;
        std::uint32_t parts;
    };
    struct Held {
        std::uint16_t page;
        std::uint32_t offset;
        Mark mark;
    };
    struct Side {
        std::deque<std::uint64_t> expected;  ///< frames that the device took for the guest
        std::vector<Held> held;
        std::vector<PackedPagesBench::Piece> waiting;
        std::uint64_t waiting_frame = 0;
        std::uint64_t next_frame = 1;
        bool asleep = false;
        bool device_asleep = false;
    };

    unsigned below(std::size_t limit) { return static_cast<unsigned>(random_() % limit); }
    bool is_hostile(unsigned pair) const { return hostile_ && pair == 1; }
    PackedVrxDriver& driver(unsigned pair) { return bench_.driver(pair); }
    void expect(bool holds, const char* what) {
        if (!holds && breach_.empty()) breach_ = what;
    }
    Mark& mark_at(std::uint16_t page, std::uint32_t offset) {
        return *reinterpret_cast<Mark*>(bench_.packets.data() + page * bench_.page_bytes + offset);
    }

    // The NIC: a few pages wait in it, and it scribbles over each page that it gets.
    void arm_nic() {
        while (nic_.size() < 4 && bench_.pool.available() > 0) {
            nic_.push_back(bench_.pool.take(mem::Holder::nic));
            std::memset(bench_.pool.bytes(nic_.back()).data(), 0xdd, 1024);
        }
    }
    void receive_frame(Side& side) {
        const std::uint32_t most = bench_.options.most_pages_of_frame;
        const std::uint32_t parts = below(64) == 0 ? most + 1 : 1 + below(most);
        arm_nic();
        if (nic_.size() < parts) return;
        side.waiting_frame = side.next_frame++;
        for (std::uint32_t part = 0; part < parts; ++part) {
            const mem::PageId page = nic_.front();
            nic_.pop_front();
            bench_.pool.pass(page, mem::Holder::nic, mem::Holder::device);
            const std::uint32_t offset = below(64) * 8;
            side.waiting.push_back({page, offset, static_cast<std::uint32_t>(sizeof(Mark)) + below(1000)});
            mark_at(static_cast<std::uint16_t>(mem::index_of(page)), offset) = {side.waiting_frame, part, parts};
        }
    }
    void drop_waiting(Side& side) {
        for (const auto& piece : side.waiting) bench_.pool.give(piece.page);
        side.waiting.clear();
    }

    /// The device looks at one ring, for one thing: others may act between any two.
    void device_turn(unsigned pair) {
        Side& side = sides_[pair];
        if (driver(pair).kick.drain()) side.device_asleep = false;
        virtio::ReceiveRing& ring = bench_.ring(pair);
        if (side.device_asleep) return;
        const bool lends = ring.lends();
        if (below(8) == 0 && !is_hostile(pair)) drive(pair);
        if (below(4) == 0) ring.prefetch(4);
        if (!lends) {
            expect(is_hostile(pair) || ring.text() == "no buffer seen yet", "an honest ring is none of pages");
            if (below(2) == 0) fall_asleep(pair);
            ring.publish();
            return;
        }
        switch (below(8)) {
            case 0:
                ring.publish();
                break;
            case 1:
                ring.absorb();
                break;
            default:
                if (side.waiting.empty()) receive_frame(side);
                if (!side.waiting.empty() && !deliver(pair)) {
                    ring.publish();
                    if (below(2) == 0) fall_asleep(pair);
                }
        }
    }
    /// As the poll thread: asks for kicks, looks once more, and sleeps if there is still nothing to do.
    void fall_asleep(unsigned pair) {
        virtio::ReceiveRing& ring = bench_.ring(pair);
        ring.want_kicks(true);
        const bool stuck = !ring.lends() || sides_[pair].waiting.empty() || !deliver(pair);
        sides_[pair].device_asleep = stuck && (ring.lends() || !ring.has_waiting());
        if (!sides_[pair].device_asleep) ring.want_kicks(false);
        ring.publish();
    }
    /// False: the frame has to wait.
    bool deliver(unsigned pair) {
        if (!bench_.ring(pair).lends()) return false;  // it stopped, and no credit came since
        Side& side = sides_[pair];
        const auto parts = side.waiting.size();
        const bool fits = parts <= bench_.options.most_pages_of_frame && parts <= bench_.options.held_limit;
        switch (bench_.ring(pair).lend(side.waiting, {})) {
            case virtio::Delivery::delivered:
                expect(fits, "a frame was lent that its driver is not prepared for");
                side.expected.push_back(side.waiting_frame);
                side.waiting.clear();
                return true;
            case virtio::Delivery::no_buffer:
            case virtio::Delivery::held:
                return false;
            case virtio::Delivery::dropped:
                expect(!fits || is_hostile(pair), "a frame that fits was dropped");
                ++tally.dropped;
                break;
            case virtio::Delivery::broken:
                expect(is_hostile(pair), "an honest driver's ring broke");
                break;
        }
        drop_waiting(side);
        return true;
    }

    /// GET_VRING_BASE, and the same base again.
    void restart(unsigned pair) {
        ++tally.restarts;
        const std::uint32_t base = bench_.stop(pair);
        if (!is_hostile(pair)) {
            const std::uint32_t used = driver(pair).ahead_of_seen(static_cast<std::uint16_t>(base >> 16));
            const std::uint32_t read = driver(pair).ahead_of_seen(static_cast<std::uint16_t>(base));
            expect(used <= read && read <= driver(pair).posted_ahead(), "a base that no ring stands at");
        }
        if (below(4) == 0) {  // somebody acts while it stands still
            drive(pair);
            bench_.audit(own());
        }
        if (below(2) == 0) bench_.device.set_base(2 * pair, base);
        expect(bench_.device.start(2 * pair), "a ring did not start again");
        sides_[pair].device_asleep = false;
    }
    std::size_t own() const {
        std::size_t pages = 0;
        for (const Side& side : sides_) pages += side.waiting.size();
        return pages;
    }

    // The drivers.
    void drive(unsigned pair) {
        if (is_hostile(pair)) return be_hostile(pair);
        Side& side = sides_[pair];
        if (below(3) == 0) return return_some(pair);  // the application's part, awake or not
        if (side.asleep && driver(pair).call.drain()) side.asleep = false;
        if (side.asleep) return;
        for (unsigned most = below(12); most > 0; --most)
            if (!take_one(pair)) break;
        if (below(4) != 0)
            for (unsigned most = below(2 + bench_.options.entries); most > 0 && driver(pair).may_give(0); --most)
                driver(pair).give();
        tally.full += driver(pair).free_slots() == 0;
        if (!driver(pair).has_used() && below(2) == 0) {
            while (driver(pair).may_give(0)) driver(pair).give();
            side.asleep = driver(pair).sleep(bench_.options.event_index && below(4) != 0);
        }
        expect(driver(pair).breach.empty(), driver(pair).breach.c_str());
    }
    bool take_one(unsigned pair) {
        Side& side = sides_[pair];
        const auto frame = driver(pair).take();
        if (frame.empty()) return false;
        expect(!side.expected.empty(), "a frame that was never taken for the guest, or twice");
        if (side.expected.empty()) return false;
        for (std::uint32_t part = 0; part < frame.size(); ++part) {
            const Mark mark = mark_at(frame[part].page, frame[part].offset);
            side.held.push_back({frame[part].page, frame[part].offset, mark});
            expect(mark.frame == side.expected.front(), "frames out of order, or other bytes than the frame's");
            expect(mark.part == part && mark.parts == frame.size(), "parts out of order, or not all");
        }
        expect(side.held.size() <= bench_.options.held_limit, "more pages than a driver may hold");
        side.expected.pop_front();
        ++tally.frames;
        return true;
    }
    /// Some pages, one to four a slot, as many as the rule lets through.
    void return_some(unsigned pair) {
        Side& side = sides_[pair];
        for (unsigned rounds = below(4); rounds > 0 && !side.held.empty(); --rounds) {
            std::size_t count = std::min<std::size_t>(1 + below(4), side.held.size());
            if (!driver(pair).may_give(count)) count = std::min<std::size_t>(4, side.held.size());
            if (!driver(pair).may_give(count)) return;
            std::vector<std::uint16_t> pages;
            for (; count > 0; --count) {
                std::swap(side.held[below(side.held.size())], side.held.back());
                const Held held = side.held.back();
                side.held.pop_back();
                expect(std::memcmp(&mark_at(held.page, held.offset), &held.mark, sizeof(Mark)) == 0,
                       "a held page was written");
                pages.push_back(held.page);
            }
            driver(pair).give(pages);
        }
    }
    void be_hostile(unsigned pair) {
        PackedVrxDriver& bad = driver(pair);
        const auto any_page = [&] { return std::uint64_t{below(bench_.options.pages + 2)}; };
        switch (below(8)) {
            case 0:  // any 16 bits of its ring or event areas
                if (below(4) == 0) {
                    const auto value = static_cast<std::uint16_t>(random_());
                    std::memcpy(bad.ring() + 2 * below(8u * bench_.options.entries + 64), &value, sizeof(value));
                }
                break;
            case 1:
            case 2:
            case 3:
                for (unsigned count = below(8); count > 0; --count)
                    bad.give_raw(any_page() | any_page() << 16 | any_page() << 32 | any_page() << 48);
                break;
            case 4:
                if (below(8) == 0) bad.give_raw(random_(), 0, 0, static_cast<std::uint16_t>(below(8)));
                break;
            default:
                while (!bad.take().empty()) {
                }
                bad.give_raw(~std::uint64_t{0});
        }
        bad.breach.clear();
        sides_[pair].expected.clear();
    }
    /// The guest's driver starts anew; it forgets what it held.
    void reset_driver(unsigned pair) {
        Side& side = sides_[pair];
        bench_.stop(pair);
        const std::size_t lent = bench_.lent(pair);
        const std::uint32_t generation = bench_.info.generation[pair];
        drop_waiting(side);
        side.expected.clear();
        side.held.clear();
        side.asleep = side.device_asleep = false;
        driver(pair).breach.clear();
        driver(pair).start(bench_.marker());
        bench_.start(bench_.first_base, pair);
        expect(bench_.lent(pair) == lent || bench_.ring(pair).text() != "no buffer seen yet", "taken back too early");
        if (below(2) == 0 && !is_hostile(pair)) restart(pair);
        expect(bench_.ring(pair).lends() || bench_.ring(pair).packed_pages_of_frame(), "a good marker was refused");
        expect(bench_.lent(pair) == 0, "a page was not taken back");
        expect(bench_.info.generation[pair] == generation + (lent != 0 ? 1 : 0), "generation");
        ++tally.resets;
    }

    void turn() {
        const unsigned pair = below(bench_.options.pairs);
        if (below(2) == 0)
            drive(pair);
        else
            device_turn(pair);
        if (below(100) == 0) restart(pair);
        const bool broken = bench_.ring(pair).broken() || (is_hostile(pair) && !bench_.ring(pair).lends());
        if (below(5000) == 0 || (broken && below(20) == 0)) reset_driver(pair);
        if (below(64) == 0) bench_.audit(own());
    }
    /// After all is read and returned every page is free or with the NIC again.
    void settle() {
        for (unsigned pair = 0; pair < bench_.options.pairs; ++pair) {
            if (is_hostile(pair)) reset_driver(pair);
            restart(pair);
            Side& side = sides_[pair];
            while (take_one(pair)) {
            }
            CHECK(side.expected.empty());
            while (!side.held.empty()) {
                return_some(pair);
                bench_.ring(pair).absorb();
                // No free slot: one more frame makes some.
                if (driver(pair).free_slots() == 0 && side.waiting.empty()) receive_frame(side);
                if (!side.waiting.empty()) deliver(pair);
                bench_.ring(pair).publish();
                while (take_one(pair)) {
                }
                if (!breach_.empty()) FAIL(breach_);
            }
            drop_waiting(side);
            bench_.ring(pair).lends();  // it may have stopped without a credit
            while (bench_.ring(pair).absorb() != 0) {
            }
            CHECK(bench_.ring(pair).held() == 0);
            expect(is_hostile(pair) || driver(pair).breach.empty(), driver(pair).breach.c_str());
        }
        bench_.audit(own());
        REQUIRE_MESSAGE(breach_.empty(), breach_);
        CHECK(bench_.pool.available() + nic_.size() == bench_.options.pages);
    }

    bool hostile_;
    std::mt19937_64 random_;
    PackedPagesBench bench_;
    std::vector<Side> sides_;
    std::deque<mem::PageId> nic_;
    std::string breach_;
};

}  // namespace vitrine::test
