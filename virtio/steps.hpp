#pragma once

#include "mem/page_ledger.hpp"

namespace vitrine::virtio {

/// What the product does at each step that a death can come before or behind: nothing. A test builds the same sources
/// with tests/dying in front of the include path, where a header of this name lets the process die there.
using DeviceSteps = mem::NoSteps;

}  // namespace vitrine::virtio
