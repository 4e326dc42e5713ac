#pragma once

#include <atomic>
#include <functional>

#include "apps/guest/options.hpp"

namespace vitrine::guest {

/// Opens the port and a door to it, and shows frames to the applications that come, until `stop` or until the device
/// is gone. `ready` is called when applications may come. Prints what was shown; returns the exit code. Throws
/// std::system_error or std::runtime_error that names what could not be done.
int serve(const Options& options, const std::atomic<bool>& stop, const std::function<void()>& ready);

}  // namespace vitrine::guest
