#pragma once

#include <atomic>

#include "apps/guest/options.hpp"
#include "apps/guest/report.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::guest {

/// Plays the VM on a connected vhost-user socket until the run ends; `stop` ends it early. Throws std::system_error or
/// std::runtime_error naming what could not be done: talk to the back-end, have the memory, use a file.
Result run(const Options& options, mem::FileDescriptor socket, const std::atomic<bool>& stop);

}  // namespace vitrine::guest
