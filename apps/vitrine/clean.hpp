#pragma once

#include "apps/vitrine/options.hpp"

namespace vitrine::apps {

/// Removes what a killed process of this name left: packet pages, who holds them, sockets, the run directory. Throws
/// std::runtime_error while one runs and for another user's files, naming the command that helps; std::system_error for
/// what cannot be removed.
void clean(const Options& options);

}  // namespace vitrine::apps
