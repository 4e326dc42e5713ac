#pragma once

#include <cstddef>
#include <vector>

#include "driver/vfio_info.hpp"
#include "mem/address.hpp"

/// What both ways to map memory for a device have to say about it.
namespace vitrine::driver {

/// Whether a mapping lies in one of the ranges, whole. `bytes` is not 0.
bool is_inside(const std::vector<IovaRange>& ranges, mem::Iova iova, std::size_t bytes);

/// Throws std::system_error (ERANGE) unless the mapping lies in one of the ranges, whole, and not at 0.
void expect_mappable(const std::vector<IovaRange>& ranges, mem::Iova iova, std::size_t bytes);

/// Throws std::system_error with what the kernel means by `error`.
[[noreturn]] void fail_to_map(int error, const char* request, std::size_t bytes);

}  // namespace vitrine::driver
