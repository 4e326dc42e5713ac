#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "mem/shared_memory.hpp"
#include "mem/vfio_user.hpp"

namespace vitrine::tests {

/// A vfio-user server with 16 KiB of plain memory as BAR0, in a thread of its own. The tests make it misbehave.
class FakeServer {
public:
    struct Message {
        mem::vfio_user::Header header;
        std::vector<std::byte> payload;
        std::size_t descriptors = 0;
    };
    struct Answer {
        mem::vfio_user::Header header;
        std::vector<std::byte> payload;
        std::vector<int> descriptors;
        bool close = false;    ///< instead of answering
        bool swallow = false;  ///< instead of answering
    };
    enum class Tails { none, sealed, unsealed };

    explicit FakeServer(Tails tails = Tails::none);
    ~FakeServer();
    FakeServer(const FakeServer&) = delete;

    /// Changes each answer before it is sent. Set before the client connects.
    std::function<void(const Message&, Answer&)> twist;
    std::string capabilities = R"({"capabilities":{"max_msg_fds":3}})";

    void start();
    mem::FileDescriptor take_client() { return std::move(client_); }

    std::vector<Message> messages(mem::vfio_user::Command command);
    std::uint32_t bar0(std::uint32_t offset);
    std::uint32_t tail_page(std::uint32_t offset) const;  ///< as the mapping shows it
    void die();

private:
    void serve();
    Answer answer(const Message& message);
    std::vector<std::byte> region_info(const Message& message, std::vector<int>& descriptors) const;

    mem::FileDescriptor client_;
    mem::FileDescriptor socket_;
    mem::FileDescriptor tails_file_;
    mem::Mapping tails_map_;
    std::mutex mutex_;
    std::vector<Message> seen_;
    std::map<std::uint64_t, std::uint32_t> bar0_;
    std::thread thread_;
};

}  // namespace vitrine::tests
