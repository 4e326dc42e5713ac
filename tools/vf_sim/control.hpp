#pragma once

#include <functional>
#include <list>
#include <poll.h>
#include <string>
#include <vector>

#include "mem/file_descriptor.hpp"

namespace vitrine::vf_sim {

/// The operator's socket: a line in, a line out. A client that sends nonsense or does not read is dropped.
class Control {
public:
    using Answer = std::function<std::string(const std::string& line)>;

    /// Throws std::system_error naming the path.
    Control(std::string path, Answer answer);
    ~Control();
    Control(const Control&) = delete;
    Control& operator=(const Control&) = delete;

    void add_to(std::vector<pollfd>& entries) const;
    /// Accepts and answers whoever is ready; never waits.
    void serve();

private:
    struct Peer {
        mem::FileDescriptor socket;
        std::string pending;  // a line that is not complete
    };
    bool serve(Peer& peer);

    std::string path_;
    Answer answer_;
    mem::FileDescriptor listener_;
    std::list<Peer> peers_;
};

}  // namespace vitrine::vf_sim
