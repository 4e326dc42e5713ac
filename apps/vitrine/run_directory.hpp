#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace vitrine::apps {

/// The directory of one VM's sockets. Who made it removes it when it is empty again.
class RunDirectory {
public:
    /// Throws std::runtime_error naming what to do.
    explicit RunDirectory(std::string path) : path_(std::move(path)) {
        std::error_code error;
        made_ = std::filesystem::create_directories(path_, error);
        if (error)
            throw std::runtime_error("run directory " + path_ + ": " + error.message() +
                                     " (choose another: --run-dir)");
        ::chmod(path_.c_str(), 0750);
    }
    RunDirectory(const RunDirectory&) = delete;
    RunDirectory& operator=(const RunDirectory&) = delete;
    ~RunDirectory() {
        if (made_) ::rmdir(path_.c_str());
    }

private:
    std::string path_;
    bool made_ = false;
};

}  // namespace vitrine::apps
