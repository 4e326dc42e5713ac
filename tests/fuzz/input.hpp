#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vitrine::fuzz {

/// Hands the input out; zeros when it is used up.
class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(std::as_bytes(std::span(data, size))) {}
    bool empty() const { return rest_.empty(); }
    template <class T>
    T take() {
        T value{};
        const auto bytes = take_bytes(sizeof(T));
        std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    std::uint8_t byte() { return take<std::uint8_t>(); }
    /// 0 to `count` - 1.
    unsigned below(unsigned count) { return byte() % count; }
    std::span<const std::byte> take_bytes(std::size_t most) {
        const auto bytes = rest_.first(std::min(most, rest_.size()));
        rest_ = rest_.subspan(bytes.size());
        return bytes;
    }

private:
    std::span<const std::byte> rest_;
};

inline void check(bool condition) {
    if (!condition) __builtin_trap();
}

}  // namespace vitrine::fuzz
