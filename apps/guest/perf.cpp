#include "apps/guest/perf.hpp"

#include <array>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>
#include <vitrine/application.hpp>

#include <nlohmann/json.hpp>

#include "apps/guest/port_owner.hpp"
#include "apps/guest/schedule.hpp"
#include "mem/test_frame.hpp"

namespace vitrine::guest {
namespace {

using std::chrono::nanoseconds;

/// Signals and the owner's end are looked at in between.
constexpr std::chrono::milliseconds look_interval{100};
constexpr std::array<std::uint32_t, 6> sizes_kib{4, 16, 64, 128, 256, 512};
constexpr std::size_t most_frame_bytes = 65536;

enum class Way { copy, wait, polling };
constexpr std::array<const char*, 3> way_names{"copy", "zero copy, wait", "zero copy, polling"};

struct Row {
    Way way;
    std::uint32_t gather_bytes;
    nanoseconds loop{};     ///< all of it
    nanoseconds receive{};  ///< until the frames are in the application's hands, and to give them back
    std::uint64_t wake_ups = 0;
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
    std::uint64_t bad = 0;   ///< payload that is not as sent
    std::uint64_t lost = 0;  ///< frames before this row's last one that never came

    std::uint64_t nanoseconds_per_wake_up() const { return static_cast<std::uint64_t>(receive.count()) / wake_ups; }
};

class Reader {
public:
    Reader(ApplicationPort& application, const Options& options, const std::atomic<bool>& stop)
        : application_(application), options_(options), stop_(stop), scratch_(most_frame_bytes) {
        lengths_.reserve(sizes_kib.back() * 1024);
    }

    Row measure(Way way, std::uint32_t gather_bytes) {
        application_.gather(gather_bytes);
        buffer_.resize(gather_bytes + most_frame_bytes);
        Row row{way, gather_bytes};
        // What was gathered for the row before us, and what was begun for it.
        for (unsigned batch = 0; batch < 2; ++batch) {
            do turn(row);
            while (!waiting_.empty());
        }
        row = {way, gather_bytes};
        const std::uint64_t lost = sequence_.lost();
        const auto start = Clock::now();
        while (row.bytes < options_.row_bytes) turn(row);
        row.loop = Clock::now() - start;
        row.lost = sequence_.lost() - lost;
        return row;
    }

private:
    void turn(Row& row) {
        if (waiting_.empty()) {
            wait(row.way);
            const auto begin = Clock::now();
            waiting_ = application_.receive();
            row.receive += Clock::now() - begin;
            waiting_bytes_ = 0;
            for (const Frame& frame : waiting_) waiting_bytes_ += frame.length_bytes;
        }
        const auto frames = take(row.gather_bytes);
        ++row.wake_ups;
        const std::uint64_t late = sequence_.out_of_order();
        row.way == Way::copy ? copy(row, frames) : read_in_place(row, frames);
        row.bad += sequence_.out_of_order() - late;
        if (!application_.intact()) throw std::runtime_error("the pages were taken back while they were read");
    }

    /// So much of what waits, and the rest too if it is less: an application that is slower than the stream finds more
    /// each time than it asked for, and would else read the same amount in every row.
    std::span<const Frame> take(std::uint32_t wanted_bytes) {
        std::size_t count = 0;
        std::uint64_t bytes = 0;
        while (count < waiting_.size() && (bytes < wanted_bytes || waiting_bytes_ - bytes < wanted_bytes))
            bytes += waiting_[count++].length_bytes;
        const auto frames = waiting_.first(count);
        waiting_ = waiting_.subspan(count);
        waiting_bytes_ -= bytes;
        return frames;
    }

    void wait(Way way) {
        const auto deadline = Clock::now() + std::chrono::seconds(options_.wait_seconds);
        while (!(way == Way::polling ? application_.spin(look_interval) : application_.sleep(look_interval))) {
            if (stop_) throw std::runtime_error("ended by a signal");
            if (application_.ended()) throw std::runtime_error("the port's owner is gone");
            if (Clock::now() >= deadline)
                throw std::runtime_error("no frames for " + std::to_string(options_.wait_seconds) + " s");
        }
    }

    void read_in_place(Row& row, std::span<const Frame> frames) {
        for (const Frame& frame : frames) check(row, application_.contiguous(frame, scratch_));
        const auto done = Clock::now();
        application_.release(frames.size());
        row.receive += Clock::now() - done;
    }

    /// As read() would: as much as the buffer holds, again until nothing is left.
    void copy(Row& row, std::span<const Frame> frames) {
        auto begin = Clock::now();
        while (!frames.empty()) {
            lengths_.clear();
            std::size_t filled = 0;
            for (const Frame& frame : frames) {
                if (frame.length_bytes > buffer_.size() - filled) break;
                for (std::size_t index = 0; index < frame.parts; ++index) {
                    const auto part = index == 0 ? frame.bytes : application_.part(frame, index);
                    std::memcpy(buffer_.data() + filled, part.data(), part.size());
                    filled += part.size();
                }
                lengths_.push_back(frame.length_bytes);
            }
            if (lengths_.empty()) throw std::runtime_error("a frame longer than 64 KiB");
            application_.release(lengths_.size());
            row.receive += Clock::now() - begin;
            std::span<const std::byte> rest = std::span(buffer_).first(filled);
            for (const std::size_t length_bytes : lengths_) {
                check(row, rest.first(length_bytes));
                rest = rest.subspan(length_bytes);
            }
            frames = frames.subspan(lengths_.size());
            begin = Clock::now();
        }
    }

    void check(Row& row, std::span<const std::byte> frame) {
        ++row.frames;
        row.bytes += frame.size();
        if (!options_.check) return;
        if (const auto stamp = mem::read_test_frame(frame))
            sequence_.accept(*stamp);
        else
            ++row.bad;
    }

    ApplicationPort& application_;
    const Options& options_;
    const std::atomic<bool>& stop_;
    std::span<const Frame> waiting_;  ///< received, and not yet looked at
    std::uint64_t waiting_bytes_ = 0;
    std::vector<std::byte> scratch_;
    std::vector<std::byte> buffer_;     ///< where frames are copied to
    std::vector<std::size_t> lengths_;  ///< of the frames in it
    mem::SequenceCheck sequence_;
};

std::string to_json(const std::vector<Row>& rows) {
    auto list = nlohmann::json::array();
    for (const Row& row : rows)
        list.push_back({{"way", way_names[static_cast<std::size_t>(row.way)]},
                        {"gather_bytes", row.gather_bytes},
                        {"loop_ns", row.loop.count()},
                        {"receive_ns", row.receive.count()},
                        {"wake_ups", row.wake_ups},
                        {"ns_per_wake_up", row.nanoseconds_per_wake_up()},
                        {"frames", row.frames},
                        {"bytes", row.bytes},
                        {"bad", row.bad},
                        {"lost", row.lost}});
    return nlohmann::json{{"rows", list}}.dump() + "\n";
}

void print_table(const std::vector<Row>& rows) {
    const auto milliseconds = [](nanoseconds time) { return static_cast<double>(time.count()) / 1e6; };
    std::puts("                      KiB per       time in       time in             ns per    bytes per");
    std::puts(
        "  way                 wake-up    loop, ms   receive, ms  wake-ups    wake-up      wake-up     bytes  bad");
    for (const Row& row : rows)
        std::printf("  %-18s %8u %11.1f %13.3f %9llu %10llu %12llu %9llu %4llu\n",
                    way_names[static_cast<std::size_t>(row.way)], row.gather_bytes / 1024, milliseconds(row.loop),
                    milliseconds(row.receive), static_cast<unsigned long long>(row.wake_ups),
                    static_cast<unsigned long long>(row.nanoseconds_per_wake_up()),
                    static_cast<unsigned long long>(row.bytes / row.wake_ups),
                    static_cast<unsigned long long>(row.bytes), static_cast<unsigned long long>(row.bad));
}

}  // namespace

int perf(const Options& options, const std::atomic<bool>& stop) {
    std::optional<PortOwner> owner;
    if (options.door_path.empty()) owner.emplace(options, stop);
    ApplicationPort application(owner ? owner->door_path() : options.door_path,
                                std::chrono::seconds(options.wait_seconds));
    Reader reader(application, options, stop);
    std::vector<Row> rows;
    for (const Way way : {Way::copy, Way::wait, Way::polling})
        for (const std::uint32_t size_kib : sizes_kib) rows.push_back(reader.measure(way, size_kib * 1024));
    options.json ? static_cast<void>(std::fputs(to_json(rows).c_str(), stdout)) : print_table(rows);
    std::uint64_t bad = 0;
    for (const Row& row : rows) bad += row.bad;
    return bad == 0 ? 0 : 1;
}

}  // namespace vitrine::guest
