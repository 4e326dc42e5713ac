#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <sys/ioctl.h>
#include <vector>

#include "driver/failure.hpp"

namespace vitrine::driver {

/// One VFIO request. Throws std::system_error naming it.
template <class Argument>
int vfio_call(int file, unsigned long request, Argument argument, const char* name) {
    const int result = ::ioctl(file, request, argument);
    if (result < 0) fail(errno, name);
    return result;
}

/// A request whose answer is as long as the kernel likes: asked with a T, and again with the length that it then names.
/// `asked` has what the question consists of.
template <class T>
std::vector<std::byte> vfio_answer(int file, unsigned long request, T asked, const char* name) {
    std::uint32_t length = sizeof(T);
    for (;;) {
        asked.argsz = length;
        std::vector<std::byte> answer(length);
        std::memcpy(answer.data(), &asked, sizeof(T));
        vfio_call(file, request, answer.data(), name);
        std::memcpy(&length, answer.data(), sizeof(length));  // argsz is the first member of all of them
        if (length <= answer.size()) return answer;
    }
}

}  // namespace vitrine::driver
