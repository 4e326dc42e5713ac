#pragma once

#include <atomic>
#include <cstdint>

#include "apps/guest/options.hpp"
#include "apps/guest/report.hpp"
#include "apps/guest/transport.hpp"

namespace vitrine::guest {

/// Of the device, two a queue pair.
inline unsigned rings_of(const Options& options) {
    return 2 * options.queues;
}
/// The virtio features to take if they are offered.
std::uint64_t wanted_features(const Options& options);

/// Drives the device until the run ends; `stop` ends it early. Throws std::system_error or std::runtime_error naming
/// what could not be done: talk to the device, have the memory, use a file.
Result run(const Options& options, Transport& device, const std::atomic<bool>& stop);

}  // namespace vitrine::guest
