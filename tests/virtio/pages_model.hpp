#pragma once

#include <cstring>
#include <deque>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "tests/virtio/hostile_driver.hpp"

namespace vitrine::test {

using virtio::vrx::UsedPage;
class PagesModel;

/// A point between two steps of the device.
struct ModelSteps {
    PagesModel* model = nullptr;
    void operator()() const noexcept;
};

/// What the pretended NIC writes where the frame begins.
struct Mark {
    std::uint64_t frame;
    std::uint32_t part;
    std::uint32_t parts;
};

/// Page-lending rings over a pretended NIC, with drivers, and a device process that dies and comes back.
class PagesModel {
public:
    using Device = PagesDevice<ModelSteps>;
    using Queue = Device::Queue;
    struct Tally {
        std::uint64_t frames = 0, steps = 0, held_tries = 0, bad_returns = 0, broken = 0;
        std::uint64_t crashes = 0, lost_in_crashes = 0, restarts = 0, resets = 0;
    };

    /// With `hostile` the driver of queue 1 does what it likes.
    PagesModel(const PagesOptions& options, bool hostile, std::uint32_t seed)
        : options_(options), hostile_(hostile), random_(seed), memory_(options), sides_(options.queues) {
        device_.emplace(memory_, ModelSteps{this});
        arm_nic();
        for (unsigned queue = 0; queue < options_.queues; ++queue) reset_driver(queue);
    }

    void run(std::uint64_t frames) {
        unsigned idle = 0;
        while (tally.frames < frames) {
            const std::uint64_t before = tally.frames;
            turn();
            for (const auto& driver : memory_.drivers) expect(driver->breach.empty(), driver->breach.c_str());
            if (!breach_.empty()) FAIL(breach_);
            idle = tally.frames == before ? idle + 1 : 0;
            if (idle == 20'000) FAIL("a lost wake-up or a lost page: nothing moves any more");
        }
        settle();
    }

    /// Called between any two steps of the device.
    void step() {
        ++tally.steps;
        if (crashed_) return;  // what is done from here on never happened
        if (crash_in_ != 0 && --crash_in_ == 0) {
            crashed_ = true;
            snapshot();
            return;
        }
        if (below(8) == 0) drive(below(options_.queues));
    }

    Tally tally;

private:
    /// A frame that the device took for the guest.
    struct Expected {
        std::uint64_t frame;
        std::uint32_t parts;
        std::uint16_t position;  ///< of its first element
    };
    struct Held {
        std::uint16_t page;
        UsedPage word;
        Mark mark;
    };
    struct Side {
        std::deque<Expected> expected;
        std::vector<Held> held;
        std::uint32_t part = 0;  ///< of the frame in front, that comes next
        std::vector<Queue::Piece> waiting;
        std::uint64_t next_frame = 1;
        std::uint64_t waiting_frame = 0;
        bool asleep = false;
        bool device_asleep = false;
        std::uint32_t generation = 0;  ///< before the driver started
        bool held_by_former = false;   ///< by the driver before it
    };

    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
    bool is_hostile(unsigned queue) const { return hostile_ && queue == 1; }
    VrxDriver& driver(unsigned queue) { return *memory_.drivers[queue]; }
    void expect(bool holds, const char* what) {
        if (!holds && breach_.empty()) breach_ = what;
    }
    Mark& mark_at(const UsedPage& word) {
        return *reinterpret_cast<Mark*>(memory_.packets.data() + word.page() * options_.page_bytes + word.offset());
    }

    // The NIC: a few pages wait in it, and it scribbles over each page that it gets.
    void arm_nic() {
        while (nic_.size() < 4 && device_->pool.available() > 0) {
            nic_.push_back(device_->pool.take(mem::Holder::nic));
            const auto bytes = device_->pool.bytes(nic_.back());
            std::memset(bytes.data(), 0xdd, 1024);
        }
    }
    void receive_frame(unsigned queue) {
        Side& side = sides_[queue];
        const unsigned parts = below(4) == 0 ? 1 + below(4) : 1;
        if (nic_.size() < parts) return;
        side.waiting_frame = side.next_frame++;
        for (std::uint32_t part = 0; part < parts; ++part) {
            const mem::PageId page = nic_.front();
            nic_.pop_front();
            device_->pool.pass(page, mem::Holder::nic, mem::Holder::device);
            const std::uint32_t offset = below(64) * 8;
            side.waiting.push_back({page, offset, static_cast<std::uint32_t>(sizeof(Mark)) + below(1000)});
            mark_at(UsedPage::of(mem::index_of(page), offset, 1)) = {side.waiting_frame, part, parts};
        }
        arm_nic();
    }
    void drop_waiting(Side& side) {
        for (const auto& piece : side.waiting) device_->pool.give(piece.page);
        side.waiting.clear();
    }

    // The device, one turn for one queue.
    void device_turn(unsigned queue) {
        Side& side = sides_[queue];
        if (driver(queue).kick.drain()) side.device_asleep = false;
        if (side.device_asleep) return;
        std::optional<Queue>& running = device_->queues[queue];
        if (below(8) == 0) crash_in_ = 1 + below(40);
        if (!running) {
            const auto start = device_->open(queue);
            expect(is_hostile(queue) || !start || start->mode == virtio::vrx::Mode::pages, "a good marker was refused");
            after_device_turn();
            return;
        }
        arm_nic();
        bool stuck = false;
        for (unsigned frames = below(8); frames > 0 && !stuck; --frames) {
            if (side.waiting.empty()) receive_frame(queue);
            if (!side.waiting.empty()) stuck = !deliver(queue, *running);
        }
        if (stuck && below(2) == 0) {
            running->want_kicks(true);
            stuck = !deliver(queue, *running);
            side.device_asleep = stuck;
            if (!stuck) running->want_kicks(false);
        }
        running->publish();
        if (below(8) == 0) running->absorb();
        after_device_turn();
    }
    /// False: the frame has to wait.
    bool deliver(unsigned queue, Queue& running) {
        Side& side = sides_[queue];
        const auto position = static_cast<std::uint16_t>(running.used_index() + running.staged());
        const bool must_split = running.staged() + side.waiting.size() > Queue::burst;
        const auto parts = static_cast<std::uint32_t>(side.waiting.size());
        if (must_split) return false;
        side.expected.push_back({side.waiting_frame, parts, position});  // its driver may look before we are back
        const auto not_taken = [&] {
            if (!side.expected.empty()) side.expected.pop_back();  // a hostile driver's is empty now and then
        };
        switch (running.deliver(side.waiting, {})) {
            case virtio::Delivery::delivered:
                side.waiting.clear();
                return true;
            case virtio::Delivery::no_buffer:
            case virtio::Delivery::held:
                not_taken();
                return false;
            case virtio::Delivery::dropped:
                not_taken();
                expect(parts > options_.held_limit || parts > options_.entries, "a frame that fits was dropped");
                drop_waiting(side);
                return true;
            case virtio::Delivery::broken:
                not_taken();
                expect(is_hostile(queue), "an honest driver's ring broke");
                drop_waiting(side);
                return true;
        }
        return false;
    }
    void after_device_turn() {
        crash_in_ = 0;
        if (crashed_) restart();
    }

    // Death and return: what others can see is as it was at the step, all else is gone.
    void snapshot() {
        saved_ram_.assign(memory_.ram.bytes().begin(), memory_.ram.bytes().end());
        saved_ledger_ = memory_.ledger_bytes;
        saved_info_ = memory_.info;
    }
    void restart() {
        ++tally.crashes;
        std::ranges::copy(saved_ram_, memory_.ram.bytes().begin());
        memory_.ledger_bytes = saved_ledger_;
        memory_.info = saved_info_;
        replace_device();
        crashed_ = false;
    }
    void replace_device() {
        for (unsigned queue = 0; queue < options_.queues; ++queue) {
            Side& side = sides_[queue];
            count_of(queue);
            side.waiting.clear();
            side.device_asleep = false;
            while (!side.expected.empty() && !was_shown(queue, side.expected.back())) {
                side.expected.pop_back();
                ++tally.lost_in_crashes;
            }
        }
        device_.emplace(memory_, ModelSteps{this});
        nic_.clear();
        arm_nic();
    }
    bool was_shown(unsigned queue, const Expected& frame) {
        const auto shown = static_cast<std::uint16_t>(driver(queue).used_index() - driver(queue).seen());
        const auto last = static_cast<std::uint16_t>(frame.position + frame.parts - 1 - driver(queue).seen());
        return last < shown;
    }
    void count_of(unsigned queue) {
        expect(is_hostile(queue) || device_->counters[queue].bad_returns == 0, "an honest driver was accused");
        tally.held_tries += device_->counters[queue].rx_held_tries;
        tally.bad_returns += device_->counters[queue].bad_returns;
        tally.broken += device_->counters[queue].ring_broken;
    }
    /// A stop and a start without a death: GET_VRING_BASE and back.
    void stop_ring(unsigned queue) {
        if (!device_->queues[queue]) return;
        ++tally.restarts;
        device_->queues[queue]->show();
        after_device_turn();
        device_->queues[queue].reset();
        sides_[queue].device_asleep = false;
    }

    // The drivers.
    void drive(unsigned queue) {
        if (is_hostile(queue)) return be_hostile(queue);
        Side& side = sides_[queue];
        if (below(3) == 0) return_some(queue);  // the application's part, awake or not
        if (side.asleep && driver(queue).call.drain()) side.asleep = false;
        if (side.asleep) return;
        for (unsigned most = below(12); most > 0; --most)
            if (!take_one(queue)) break;
        const std::uint16_t owed = driver(queue).owed_credits();
        if (owed != 0 && below(4) != 0) driver(queue).give_credits(static_cast<std::uint16_t>(1 + below(owed)));
        if (!driver(queue).has_used() && below(2) == 0) {
            if (const std::uint16_t rest = driver(queue).owed_credits(); rest != 0) driver(queue).give_credits(rest);
            side.asleep = driver(queue).sleep();
        }
    }
    bool take_one(unsigned queue) {
        Side& side = sides_[queue];
        const auto element = driver(queue).take();
        if (!element) return false;
        const Mark mark = mark_at(element->word);
        side.held.push_back({element->word.page(), element->word, mark});
        expect(side.held.size() <= options_.held_limit, "more pages than a driver may hold");
        expect(!side.expected.empty(), "a frame that was never taken for the guest, or twice");
        if (side.expected.empty()) return false;
        const Expected& front = side.expected.front();
        expect(mark.frame == front.frame, "frames out of order, or other bytes than the frame's");
        expect(mark.part == side.part && mark.parts == front.parts, "parts out of order");
        expect(element->word.has(UsedPage::next) == (side.part + 1 < front.parts), "NEXT where none is, or none");
        expect(element->position == static_cast<std::uint16_t>(front.position + side.part), "another position");
        if (++side.part == front.parts) {
            side.part = 0;
            side.expected.pop_front();
            ++tally.frames;
        }
        return true;
    }
    void return_some(unsigned queue) {
        Side& side = sides_[queue];
        for (unsigned count = below(static_cast<unsigned>(side.held.size()) + 1); count > 0; --count) {
            std::swap(side.held[below(static_cast<unsigned>(side.held.size()))], side.held.back());
            const Held held = side.held.back();
            side.held.pop_back();
            expect(std::memcmp(&mark_at(held.word), &held.mark, sizeof(Mark)) == 0, "a held page was written");
            driver(queue).give_back(held.page);
        }
        driver(queue).publish_returns();
    }
    void be_hostile(unsigned queue) {
        act_hostile(driver(queue), options_, PagesMemory::ring_distance * queue, random_);
        sides_[queue].expected.clear();
        sides_[queue].part = 0;
    }
    /// The guest's driver starts anew; it forgets what it held.
    void reset_driver(unsigned queue) {
        Side& side = sides_[queue];
        stop_ring(queue);
        // 7.4: it says of the driver before this one whether pages were taken from it.
        if (!driver(queue).answer().none() && !is_hostile(queue))
            expect((memory_.info.generation[queue] != side.generation) == side.held_by_former, "generation");
        side.generation = memory_.info.generation[queue];
        side.held_by_former = device_->ledger.lent_to(queue) != 0;
        drop_waiting(side);
        side.expected.clear();
        side.held.clear();
        side.part = 0;
        side.asleep = side.device_asleep = false;
        driver(queue).start(PagesMemory::marker(), static_cast<std::uint16_t>(0xffd0 + below(64)));
        driver(queue).give_credits(static_cast<std::uint16_t>(1 + below(options_.entries)));
        ++tally.resets;
    }

    void turn() {
        const unsigned queue = below(options_.queues);
        if (below(2) == 0)
            drive(queue);
        else
            device_turn(queue);
        if (below(2000) == 0) stop_ring(queue);
        const bool broken = device_->queues[queue] && device_->queues[queue]->broken();
        const bool refused = is_hostile(queue) && !device_->queues[queue];
        if (below(5000) == 0 || broken || (refused && below(50) == 0)) reset_driver(queue);
        if (below(64) == 0) audit();
    }
    /// Every page is in one hand, and pool and ledger agree.
    void audit() {
        const auto audit = device_->pool.audit();
        expect(audit.free_list_agrees && audit.total() == options_.pages, "the pool lost count");
        std::size_t lent = 0;
        for (unsigned queue = 0; queue < options_.queues; ++queue) {
            lent += device_->ledger.lent_to(queue);
            const auto& running = device_->queues[queue];
            if (running)
                expect(running->held() == device_->ledger.lent_to(queue) + running->staged(), "held miscounted");
        }
        expect(audit.held[static_cast<std::size_t>(mem::Holder::guest)] == lent, "pool and ledger disagree");
        expect(audit.held[static_cast<std::size_t>(mem::Holder::nic)] == nic_.size(), "the NIC's pages");
    }
    /// After all is read and returned every page is free or with the NIC again.
    void settle() {
        for (unsigned queue = 0; queue < options_.queues; ++queue) {
            if (is_hostile(queue)) reset_driver(queue);
            stop_ring(queue);
            while (take_one(queue)) {
            }
            REQUIRE_MESSAGE(breach_.empty(), breach_);
            CHECK(sides_[queue].expected.empty());
            while (!sides_[queue].held.empty()) return_some(queue);
            driver(queue).give_credits(driver(queue).owed_credits());
            drop_waiting(sides_[queue]);
            device_->open(queue);
            REQUIRE(device_->queues[queue].has_value());
            while (device_->queues[queue]->absorb() != 0) {
            }
            CHECK(device_->queues[queue]->held() == 0);
            count_of(queue);
        }
        audit();
        REQUIRE_MESSAGE(breach_.empty(), breach_);
        CHECK(device_->pool.available() + nic_.size() == options_.pages);
    }

    PagesOptions options_;
    bool hostile_;
    std::mt19937 random_;
    PagesMemory memory_;
    std::vector<Side> sides_;
    std::optional<Device> device_;
    std::deque<mem::PageId> nic_;
    std::string breach_;
    unsigned crash_in_ = 0;
    bool crashed_ = false;
    std::vector<std::byte> saved_ram_;
    std::vector<std::byte> saved_ledger_;
    mem::InfoPage saved_info_{};
};

inline void ModelSteps::operator()() const noexcept {
    model->step();
}

}  // namespace vitrine::test
