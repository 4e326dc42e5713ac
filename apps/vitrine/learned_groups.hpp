#pragma once

#include <algorithm>
#include <vector>

#include "apps/frame/joined_groups.hpp"
#include "driver/mailbox_messages.hpp"

namespace vitrine::apps {

/// The multicast groups that the guest reported, the latest first, as many as may find room in the VF's filter beside
/// those that every host listens to. There is no leaving: an old group gives way when a new one needs its place.
/// Control thread.
class LearnedGroups {
public:
    static constexpr std::size_t most = driver::most_multicast_hashes - 3;

    /// True if the filter must be written anew.
    bool hear(const GroupAddress& group) {
        const auto known = std::ranges::find(groups_, group);
        const bool is_new = known == groups_.end();
        if (!is_new) groups_.erase(known);
        groups_.insert(groups_.begin(), group);
        if (groups_.size() > most) groups_.pop_back();
        return is_new;
    }
    const std::vector<driver::MacAddress>& list() const { return groups_; }

private:
    std::vector<driver::MacAddress> groups_;
};

}  // namespace vitrine::apps
