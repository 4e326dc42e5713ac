// Counts frames by Ethernet type where the NIC put them, and sends the first one back.
//     count_frames SOCKET PAGES FRAMES
// Build: g++ -std=c++20 count_frames.cpp $(pkg-config --cflags --libs vitrine-port)

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <vector>
#include <vitrine/port.hpp>

namespace {

/// Swaps the two addresses, in a copy: received bytes cannot be written.
void send_back(vitrine::Port& port, const vitrine::Frame& frame) {
    std::vector<std::byte> copy(frame.bytes.begin(), frame.bytes.end());
    if (copy.size() < 14) return;
    std::swap_ranges(copy.begin(), copy.begin() + 6, copy.begin() + 6);
    port.send(copy);
}

int count(const char* socket, const char* pages, unsigned long wanted) {
    vitrine::Port port({.socket_path = socket, .pages_path = pages, .patience = std::chrono::seconds(10)});
    std::map<unsigned, unsigned long> frames_by_type;
    unsigned long frames = 0;
    while (frames < wanted) {
        for (const vitrine::Frame& frame : port.receive()) {
            if (frame.bytes.size() >= 14)
                ++frames_by_type[std::to_integer<unsigned>(frame.bytes[12]) << 8 |
                                 std::to_integer<unsigned>(frame.bytes[13])];
            if (frames == 0) send_back(port, frame);
            ++frames;
            port.release(frame);
        }
        if (!port.wait(std::chrono::milliseconds(100)) && port.state() != vitrine::Port::State::running) break;
    }
    for (const auto& [type, count] : frames_by_type) std::printf("%04x %lu\n", type, count);
    return frames >= wanted ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: count_frames SOCKET PAGES FRAMES\n");
        return 2;
    }
    try {
        return count(argv[1], argv[2], std::strtoul(argv[3], nullptr, 10));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "count_frames: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
