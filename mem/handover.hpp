#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <pthread.h>
#include <span>
#include <utility>

#include <boost/lockfree/spsc_queue.hpp>

#include "mem/file_descriptor.hpp"

namespace vitrine::mem {

/// A one-way queue between two threads, moved in batches: one at a time a lock-free queue costs a cache miss an item.
template <class Item, std::size_t capacity>
class Channel {
public:
    /// Returns how many fitted.
    std::size_t push(std::span<const Item> items) noexcept { return queue_.push(items.data(), items.size()); }
    /// Returns how many came.
    std::size_t pop(std::span<Item> items) noexcept { return queue_.pop(items.data(), items.size()); }
    /// For rare items only.
    bool push_one(const Item& item) noexcept { return queue_.push(item); }
    bool pop_one(Item& item) noexcept { return queue_.pop(item); }
    bool empty() const noexcept { return queue_.read_available() == 0; }

private:
    boost::lockfree::spsc_queue<Item, boost::lockfree::capacity<capacity>> queue_;
};

/// How the control thread gets at what a poll thread owns: it asks, the poll thread stops at a safe point and says
/// so, the control thread changes what it likes, and gives it back. Nobody takes a lock on the data path.
class Handover {
public:
    /// What the control thread holds while the poll thread stands still.
    class Hold {
    public:
        Hold() = default;  ///< of nobody: no poll thread runs yet
        explicit Hold(Handover& owner) : owner_(&owner) {}
        Hold(Hold&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;
        Hold& operator=(Hold&&) = delete;
        ~Hold() {
            if (owner_ != nullptr) owner_->give_back();
        }

    private:
        Handover* owner_ = nullptr;
    };

    Handover();

    /// The thread that will call stand_by(). While it does not answer a take() it gets SIGUSR1 ten times a second,
    /// which ends any system call with EINTR: a peer's eventfd whose counter is full would otherwise hold it for ever.
    void set_poll_thread(pthread_t thread) noexcept { poll_thread_ = thread; }

    /// Control thread. Nested calls are served at once. A poll thread that does not stop within `limit` is stuck, and
    /// nothing it owns can be touched again: the process ends (abort) with a line that says so.
    Hold take(std::chrono::milliseconds limit = std::chrono::seconds(5));

    /// Poll thread, once a loop: stands still here while the control thread holds it. False without a request.
    bool stand_by() noexcept;
    /// Readable while a request waits: a sleeping poll thread includes it in its wait.
    int wake_descriptor() const { return request_event_.get(); }

private:
    enum class Token : std::uint8_t { take, taken, given_back };

    void give_back() noexcept;

    Channel<Token, 8> to_poller_;
    Channel<Token, 8> to_control_;
    EventFd request_event_;
    EventFd taken_event_;
    EventFd given_back_event_;
    unsigned depth_ = 0;  // control thread only
    std::optional<pthread_t> poll_thread_;
};

}  // namespace vitrine::mem
