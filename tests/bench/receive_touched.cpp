// How many bytes the receive path reads and writes for a frame, by mode, size and place: its own sources, compiled so
// that each load and store is counted (count_accesses.hpp). Prints one JSON line for each mode and size. Fails when a
// path touches payload that it should not, or not as often as it should.

#include <cstdio>
#include <exception>
#include <string>

#include "tests/bench/count_accesses.hpp"
#include "tests/bench/receive_bench.hpp"

namespace vitrine::bench {
namespace {

constexpr std::array place_names{"nic_ring", "packets", "guest_ring", "guest_memory", "own"};
enum : std::size_t { nic_ring, packets, guest_ring, guest_memory, own };

/// False: the path did not do what it is for.
bool check(const Way& way, std::uint32_t bytes, std::size_t frames, const PathCounter& counter) {
    const std::uint64_t read = counter.counts[packets].bytes_read, written = counter.counts[guest_memory].bytes_written;
    const bool copies = way.path == Way::Path::copy;
    const std::uint64_t copied = copies ? frames * bytes : 0;
    const std::uint64_t headers = way.path != Way::Path::pages ? frames * sizeof(virtio::NetHeader) : 0;
    const bool good = read == copied && written == copied + headers && counter.counts[packets].bytes_written == 0 &&
                      counter.counts[guest_memory].bytes_read == 0 && counter.counts[nic_ring].bytes_read != 0 &&
                      counter.counts[guest_ring].bytes_written != 0;
    if (!good)
        std::fprintf(stderr, "%s, %u bytes: %zu frames, %llu bytes of pages read, %llu of buffers written\n",
                     std::string(way.name).c_str(), bytes, frames, static_cast<unsigned long long>(read),
                     static_cast<unsigned long long>(written));
    return good;
}

bool count(const Way& way, const std::string& directory) {
    bool good = true;
    ReceiveBench bench(way, directory, mem::Backing::small_only);
    const ReceiveBench::Places places = bench.places();
    for (const std::uint32_t bytes : {64u, 256u, 512u, 1518u, 4096u, 9000u}) {
        bench.set_frame_bytes(bytes);
        bench.block([](auto&& work) { work(); });
        PathCounter counter{.where = {places.nic_ring, places.packets, places.guest_ring, places.guest_memory}};
        std::size_t frames = 0;
        for (unsigned block = 0; block < 8; ++block)
            frames += bench.block([&](auto&& work) {
                access_counter = &counter;
                work();
                access_counter = nullptr;
            });
        std::printf(R"({"way": "%s", "bytes": %u, "frames": %zu)", std::string(way.name).c_str(), bytes, frames);
        for (std::size_t place = 0; place < place_names.size(); ++place)
            std::printf(R"(, "%s": [%.2f, %.2f])", place_names[place],
                        static_cast<double>(counter.counts[place].bytes_read) / static_cast<double>(frames),
                        static_cast<double>(counter.counts[place].bytes_written) / static_cast<double>(frames));
        std::printf("}\n");
        good &= check(way, bytes, frames, counter);
    }
    return good;
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: receive_touched DIRECTORY (for packet pages, in memory)\n");
        return 2;
    }
    try {
        bool good = true;
        for (const vitrine::bench::Way& way : vitrine::bench::ways) good &= vitrine::bench::count(way, argv[1]);
        return good ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "receive_touched: %s\n", error.what());
        return 1;
    }
}
