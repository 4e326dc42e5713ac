// What the device's side of a frame costs in each receive mode, in CPU time of this thread: what others do on the
// machine shows in the caches alone. All modes in turn, a slice of some milliseconds each, again and again. Prints one
// JSON line for each slice; receive_modes.py makes table and plot of them.

#include <cstdio>
#include <exception>
#include <string>
#include <time.h>
#include <vector>

#include <CLI/CLI.hpp>

#include "tests/bench/receive_bench.hpp"

namespace vitrine::bench {
namespace {

double now_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

/// What two looks at the clock are apart when nothing lies between them.
double clock_cost_ns() {
    constexpr unsigned looks = 10'000;
    const double begin = now_ns();
    for (unsigned i = 1; i < looks; ++i) now_ns();
    return (now_ns() - begin) / looks;
}

struct Arguments {
    std::string directory;
    std::string memory = "small";
    std::vector<std::uint32_t> sizes{64, 256, 512, 1518, 4096, 9000};
    unsigned rounds = 20;
    double slice_ms = 20;
};

void measure_slice(ReceiveBench& bench, const Way& way, std::uint32_t bytes, unsigned round, double slice_ms) {
    bench.set_frame_bytes(bytes);
    const double clock_ns = clock_cost_ns();
    bench.block([](auto&& work) { work(); });  // ring and caches are this size's now
    double spent = 0;
    std::size_t frames = 0, blocks = 0;
    for (; spent < slice_ms * 1e6; ++blocks)
        frames += bench.block([&](auto&& work) {
            const double begin = now_ns();
            work();
            spent += now_ns() - begin - clock_ns;
        });
    std::printf(R"({"way": "%s", "bytes": %u, "round": %u, "frames": %zu, "blocks": %zu, "parts": %u, "ns": %.3f})"
                "\n",
                std::string(way.name).c_str(), bytes, round, frames, blocks, bench.parts_of_frame(),
                spent / static_cast<double>(frames));
}

void measure(const Arguments& arguments) {
    const auto backing = arguments.memory == "huge" ? mem::Backing::huge_only : mem::Backing::small_only;
    std::vector<std::unique_ptr<ReceiveBench>> benches;
    for (const Way& way : ways) {
        benches.push_back(std::make_unique<ReceiveBench>(way, arguments.directory, backing));
        for (unsigned block = 0; block < 32; ++block)  // touches all memory once
            benches.back()->block([](auto&& work) { work(); });
    }
    for (unsigned round = 0; round < arguments.rounds; ++round)
        for (const std::uint32_t bytes : arguments.sizes)
            for (std::size_t i = 0; i < ways.size(); ++i)
                measure_slice(*benches[i], ways[i], bytes, round, arguments.slice_ms);
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
    vitrine::bench::Arguments arguments;
    CLI::App app{"Prints what vitrine's side of a received frame costs, by mode and size, as JSON lines.",
                 "receive_cost"};
    app.add_option("--directory", arguments.directory, "For the packet pages; on hugetlbfs with --memory huge")
        ->required();
    app.add_option("--memory", arguments.memory)->check(CLI::IsMember({"small", "huge"}));
    app.add_option("--sizes", arguments.sizes, "Bytes of a frame in memory")->delimiter(',');
    app.add_option("--rounds", arguments.rounds);
    app.add_option("--slice-ms", arguments.slice_ms, "CPU time for each mode and size in each round");
    try {
        app.parse(argc, argv);
        vitrine::bench::measure(arguments);
        return 0;
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "receive_cost: %s\n", error.what());
        return 1;
    }
}
