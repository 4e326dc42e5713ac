#include "mem/page_pool.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace vitrine::mem;

namespace {

struct PoolBench {
    std::vector<std::byte> memory = std::vector<std::byte>(64 * 2048, std::byte{0x5a});
    PagePool pool{memory, Iova{0x1'0000'0000}, 2048};
};

}  // namespace

TEST_CASE("pages are distinct, aligned to their size, and inside the memory") {
    PoolBench bench;
    std::vector<PageId> taken;
    while (bench.pool.available() > 0) taken.push_back(bench.pool.take(Holder::nic));
    REQUIRE(taken.size() == 64);
    for (const PageId page : taken) {
        CHECK((bench.pool.iova(page).raw - 0x1'0000'0000) % 2048 == 0);
        CHECK(bench.pool.bytes(page).data() == bench.memory.data() + (bench.pool.iova(page).raw - 0x1'0000'0000));
    }
    std::ranges::sort(taken);
    CHECK(std::ranges::adjacent_find(taken) == taken.end());
}

TEST_CASE("conservation: a random walk of pages between holders never loses or doubles one") {
    PoolBench bench;
    std::mt19937 random(1);
    std::vector<PageId> out;
    for (int step = 0; step < 20'000; ++step) {
        if (random() % 2 == 0 && bench.pool.available() > 0) {
            out.push_back(bench.pool.take(Holder::nic));
        } else if (!out.empty()) {
            std::swap(out[random() % out.size()], out.back());
            if (bench.pool.holder(out.back()) == Holder::nic) {
                bench.pool.pass(out.back(), Holder::nic, Holder::device);
            } else {
                bench.pool.give(out.back());
                out.pop_back();
            }
        }
        const PagePool::Audit audit = bench.pool.audit();
        REQUIRE(audit.total() == 64);
        REQUIRE(audit.free_list_agrees);
        REQUIRE(audit.held[0] == 64 - out.size());
    }
}

TEST_CASE("slab-free: the pool writes nothing into the pages") {
    PoolBench bench;
    std::vector<PageId> out;
    while (bench.pool.available() > 0) out.push_back(bench.pool.take(Holder::device));
    for (const PageId page : out) bench.pool.give(page);
    CHECK(std::ranges::all_of(bench.memory, [](std::byte byte) { return byte == std::byte{0x5a}; }));
}

TEST_CASE("pages that a guest still holds from an earlier process are not given out") {
    std::vector<std::byte> memory(8 * 2048);
    PagePool pool(memory, Iova{0x10'0000}, 2048);
    pool.leave_with_guest([](PageId page) { return index_of(page) % 3 == 0; });
    CHECK(pool.available() == 5);
    CHECK(pool.holder(PageId{6}) == Holder::guest);
    while (pool.available() > 0) CHECK(index_of(pool.take(Holder::nic)) % 3 != 0);
    pool.give(PageId{6});
    CHECK(pool.take(Holder::nic) == PageId{6});
    CHECK(pool.audit().held[static_cast<std::size_t>(Holder::guest)] == 2);
}
