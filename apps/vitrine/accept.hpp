#pragma once

#include <cstdint>
#include <string_view>

#include "apps/vitrine/event_loop.hpp"
#include "mem/file_descriptor.hpp"

namespace vitrine::apps {

/// Accepts whoever waits on `listener`, in its callback. None (false) when nobody does, and when the process can open
/// no more descriptors: who waits stays in the backlog, the listener rests for a second, and `failures` counts it.
/// Without that pause the loop would be called for the same client again and again.
mem::FileDescriptor accept_or_rest(EventLoop& loop, int listener, std::string_view who, std::uint64_t& failures);

}  // namespace vitrine::apps
