#include "tests/bench/count_accesses.hpp"

#include <atomic>

namespace {

using vitrine::bench::access_counter;
using vitrine::bench::Accesses;

void count(const volatile void* address, std::size_t bytes, std::uint64_t Accesses::* direction) noexcept {
    if (access_counter == nullptr) return;
    const auto* const at = static_cast<const std::byte*>(const_cast<const void*>(address));
    std::size_t place = 0;
    for (const auto& where : access_counter->where) {
        if (at >= where.data() && at < where.data() + where.size()) break;
        ++place;
    }
    access_counter->counts[place].*direction += bytes;
}
void reads(const volatile void* address, std::size_t bytes) noexcept {
    count(address, bytes, &Accesses::bytes_read);
}
void writes(const volatile void* address, std::size_t bytes) noexcept {
    count(address, bytes, &Accesses::bytes_written);
}
template <class Word>
Word load(const volatile Word* address) noexcept {
    reads(address, sizeof(Word));
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
template <class Word>
void store(volatile Word* address, Word value) noexcept {
    writes(address, sizeof(Word));
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);
}

}  // namespace

// The names that g++ and clang call. One that is missing here is an error when the program is linked.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read1(void* address) {
    reads(address, 1);
}
void __tsan_read2(void* address) {
    reads(address, 2);
}
void __tsan_read4(void* address) {
    reads(address, 4);
}
void __tsan_read8(void* address) {
    reads(address, 8);
}
void __tsan_read16(void* address) {
    reads(address, 16);
}
void __tsan_unaligned_read2(void* address) {
    reads(address, 2);
}
void __tsan_unaligned_read4(void* address) {
    reads(address, 4);
}
void __tsan_unaligned_read8(void* address) {
    reads(address, 8);
}
void __tsan_unaligned_read16(void* address) {
    reads(address, 16);
}
void __tsan_read_range(void* address, unsigned long bytes) {
    reads(address, bytes);
}
void __tsan_write1(void* address) {
    writes(address, 1);
}
void __tsan_write2(void* address) {
    writes(address, 2);
}
void __tsan_write4(void* address) {
    writes(address, 4);
}
void __tsan_write8(void* address) {
    writes(address, 8);
}
void __tsan_write16(void* address) {
    writes(address, 16);
}
void __tsan_unaligned_write2(void* address) {
    writes(address, 2);
}
void __tsan_unaligned_write4(void* address) {
    writes(address, 4);
}
void __tsan_unaligned_write8(void* address) {
    writes(address, 8);
}
void __tsan_unaligned_write16(void* address) {
    writes(address, 16);
}
void __tsan_write_range(void* address, unsigned long bytes) {
    writes(address, bytes);
}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
std::uint8_t __tsan_atomic8_load(const volatile std::uint8_t* address, int) {
    return load(address);
}
std::uint16_t __tsan_atomic16_load(const volatile std::uint16_t* address, int) {
    return load(address);
}
std::uint32_t __tsan_atomic32_load(const volatile std::uint32_t* address, int) {
    return load(address);
}
std::uint64_t __tsan_atomic64_load(const volatile std::uint64_t* address, int) {
    return load(address);
}
void __tsan_atomic8_store(volatile std::uint8_t* address, std::uint8_t value, int) {
    store(address, value);
}
void __tsan_atomic16_store(volatile std::uint16_t* address, std::uint16_t value, int) {
    store(address, value);
}
void __tsan_atomic32_store(volatile std::uint32_t* address, std::uint32_t value, int) {
    store(address, value);
}
void __tsan_atomic64_store(volatile std::uint64_t* address, std::uint64_t value, int) {
    store(address, value);
}
void __tsan_atomic_thread_fence(int) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
}
void __tsan_atomic_signal_fence(int) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

void* __real_memcpy(void* to, const void* from, std::size_t bytes);
void* __real_memmove(void* to, const void* from, std::size_t bytes);
void* __real_memset(void* to, int value, std::size_t bytes);
void* __wrap_memcpy(void* to, const void* from, std::size_t bytes) {
    reads(from, bytes);
    writes(to, bytes);
    return __real_memcpy(to, from, bytes);
}
void* __wrap_memmove(void* to, const void* from, std::size_t bytes) {
    reads(from, bytes);
    writes(to, bytes);
    return __real_memmove(to, from, bytes);
}
void* __wrap_memset(void* to, int value, std::size_t bytes) {
    writes(to, bytes);
    return __real_memset(to, value, bytes);
}
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
    return __wrap_memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
    return __wrap_memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
    return __wrap_memset(to, value, bytes);
}
}
