#pragma once

namespace vitrine::apps {

/// What a process has from whoever started it, and does not need. Once, at the start, before any thread and any file
/// of ours: a bug that a guest finds later then finds a small process.
///
/// Files but the standard ones and `kept` (-1: none) are closed, the environment is emptied, no core file and no
/// debugger of the same user shows guest memory, and every capability goes for good: the VF needs no more than the
/// ownership of its group's node. Throws std::system_error naming what failed.
void give_up_belongings(int kept);

/// Throws std::runtime_error, which says what to do, for user 0.
void refuse_root();

}  // namespace vitrine::apps
