#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

/// Loads and stores of code that was compiled with -fsanitize=thread, by where they go. The compiler puts a call at
/// each of them; here those calls count instead of looking for races. Copies that are calls of memcpy or memmove count
/// as both. What stays in registers or in locals whose address nobody has is not seen, and costs nothing to speak of.
namespace vitrine::bench {

struct Accesses {
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
};

/// The first place that an address lies in has it; the last one, without bounds, has all others.
template <std::size_t places>
struct AccessCounter {
    std::array<std::span<const std::byte>, places> where{};
    std::array<Accesses, places + 1> counts{};
};
using PathCounter = AccessCounter<4>;

/// Null: nothing is counted.
inline PathCounter* access_counter = nullptr;

}  // namespace vitrine::bench
