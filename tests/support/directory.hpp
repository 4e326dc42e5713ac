#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace vitrine::test {

/// A directory of a test's own, removed with what is in it.
class Directory {
public:
    explicit Directory(const std::string& parent = std::filesystem::temp_directory_path().string())
        : path(parent + "/vitrine-test-XXXXXX") {
        if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp " + path);
    }
    ~Directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    std::string operator/(const std::string& name) const { return path + "/" + name; }

    std::string path;
};

/// Where packet pages may lie on any machine.
inline constexpr const char* in_memory = "/dev/shm";

}  // namespace vitrine::test
