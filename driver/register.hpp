#pragma once

#include <concepts>
#include <cstdint>

namespace vitrine::driver {

/// A register or descriptor word with named bit fields. `with()` returns a copy, so that a read-modify-write shows as
/// one read and one write.
template <class Self, class Word = std::uint32_t>
// NOLINTNEXTLINE(bugprone-crtp-constructor-accessibility): an aggregate, so that {{raw}} makes one
struct Register {
    Word raw = 0;

    /// Bits high:low, numbered as the data sheet prints them.
    template <unsigned high, unsigned low = high>
    struct Field {
        static_assert(low <= high && high < sizeof(Word) * 8);
        Word mask = (~Word{0} >> (sizeof(Word) * 8 - 1 - high + low)) << low;
    };

    template <unsigned high, unsigned low>
    constexpr Word get(Field<high, low> field) const {
        return (raw & field.mask) >> low;
    }
    template <unsigned high, unsigned low>
    constexpr Self with(Field<high, low> field, Word value) const {
        return Self{{(raw & ~field.mask) | ((value << low) & field.mask)}};
    }
};

/// 32-bit registers by byte offset in BAR0: a mapped BAR, a vfio-user socket, or a fake.
template <class T>
concept RegisterSpace = requires(T space, std::uint32_t offset, std::uint32_t value) {
    { space.load(offset) } -> std::same_as<std::uint32_t>;
    space.store(offset, value);
};

template <class R, RegisterSpace Space, class... Index>
R read(Space& space, Index... index) {
    return R{{space.load(R::at(index...))}};
}
template <RegisterSpace Space, class R, class... Index>
void write(Space& space, R value, Index... index) {
    space.store(R::at(index...), value.raw);
}

}  // namespace vitrine::driver
