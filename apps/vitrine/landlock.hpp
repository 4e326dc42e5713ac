#pragma once

#include <span>
#include <string>

namespace vitrine::apps {

/// What may still be done at a path and, for a directory, below it.
enum class FileRight { read, use_device, remove };

struct AllowedPath {
    std::string path;
    FileRight right;
};

/// From here on the calling thread, and the threads that it starts, open and change no file but these, make no TCP
/// connection, and reach no abstract socket outside: as much of that as the kernel knows. Paths that do not exist are
/// left out. Returns the version of the kernel's Landlock, 0 without one. Throws std::system_error.
int allow_only_files(std::span<const AllowedPath> paths);

}  // namespace vitrine::apps
