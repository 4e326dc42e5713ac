#pragma once

#include <atomic>

#include "apps/guest/options.hpp"

namespace vitrine::guest {

/// Reads one stream as an application in three ways, at six sizes of wake-ups, and prints what each cost. Reads at
/// --door, or has an owner of the port in a process of its own. Returns the exit code. Throws std::system_error or
/// std::runtime_error that names what could not be done.
int perf(const Options& options, const std::atomic<bool>& stop);

}  // namespace vitrine::guest
