#include "mem/page_pool.hpp"

#include <algorithm>

namespace vitrine::mem {

PagePool::PagePool(std::span<std::byte> memory, Iova iova, std::size_t page_bytes)
    : memory_(memory), iova_(iova), page_bytes_(page_bytes), holder_(memory.size() / page_bytes, Holder::free) {
    assert(page_bytes != 0 && memory.size() % page_bytes == 0 && iova.raw != 0);
    free_.reserve(pages());
    for (std::size_t page = pages(); page-- > 0;) free_.push_back(PageId{static_cast<std::uint32_t>(page)});
}

PagePool::Audit PagePool::audit() const {
    Audit result;
    for (const Holder holder : holder_) ++result.held[static_cast<std::size_t>(holder)];
    std::vector<bool> listed(pages(), false);
    result.free_list_agrees = free_.size() == result.held[static_cast<std::size_t>(Holder::free)] &&
                              std::ranges::all_of(free_, [&](PageId page) {
                                  const bool sound = index_of(page) < pages() && !listed[index_of(page)] &&
                                                     holder_[index_of(page)] == Holder::free;
                                  if (sound) listed[index_of(page)] = true;
                                  return sound;
                              });
    return result;
}

}  // namespace vitrine::mem
