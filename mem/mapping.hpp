#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vitrine::mem {

enum class Access { read_only, read_write };

/// A shared mapping of (part of) a file, unmapped on destruction. Never executable.
class Mapping {
public:
    Mapping() = default;
    /// Maps `bytes` at `offset`. Throws std::system_error.
    Mapping(int descriptor, std::size_t bytes, std::uint64_t offset, Access access);
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping();

    std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }
    std::span<std::byte> bytes() const { return {data_, size_}; }
    explicit operator bool() const { return data_ != nullptr; }

    /// Faults every page in now, so that a shortage is an error here and not a SIGBUS later (MADV_POPULATE_WRITE).
    /// Throws std::system_error.
    void populate() const;

private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace vitrine::mem
