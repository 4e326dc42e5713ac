#pragma once

#include <string>
#include <system_error>

namespace vitrine::driver {

/// Throws std::system_error; `attempt` names what was tried.
[[noreturn]] inline void fail(int error, const std::string& attempt) {
    throw std::system_error(error, std::generic_category(), attempt);
}

}  // namespace vitrine::driver
