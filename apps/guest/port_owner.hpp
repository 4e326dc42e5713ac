#pragma once

#include <atomic>
#include <string>
#include <sys/types.h>

#include "apps/guest/options.hpp"

namespace vitrine::guest {

/// A process of its own that does what `vitrine-guest serve` does, as long as this object lives.
class PortOwner {
public:
    /// Returns when the door is open. Throws std::runtime_error when the owner cannot have it; it has said why.
    PortOwner(Options options, const std::atomic<bool>& stop);
    PortOwner(const PortOwner&) = delete;
    PortOwner& operator=(const PortOwner&) = delete;
    ~PortOwner();

    const std::string& door_path() const { return door_path_; }

private:
    void end() noexcept;

    std::string directory_;
    std::string door_path_;
    pid_t process_ = -1;
};

}  // namespace vitrine::guest
