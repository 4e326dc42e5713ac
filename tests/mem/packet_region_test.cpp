#include "mem/packet_region.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <grp.h>
#include <linux/magic.h>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/support/directory.hpp"

using namespace vitrine::mem;
namespace test = vitrine::test;

namespace {

struct Bench {
    explicit Bench(const std::string& region_parent = test::in_memory) : regions(region_parent) {
        ::chmod(regions.path.c_str(), 0750);
        ::chmod(private_files.path.c_str(), 0750);
    }

    PacketRegion::Config config() const {
        return {.path = regions / "pages",
                .ledger_path = private_files / "ledger",
                .wanted_pages = 300,
                .queues = 2,
                .held_limit = 100};
    }

    test::Directory regions;
    test::Directory private_files;
};

mode_t mode_of(const std::string& path) {
    struct stat status{};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

/// What a peer may try. Each name is in the result if it succeeded; "read" should.
struct Attempts {
    static constexpr std::array<std::string_view, 14> names{"open by path for writing",
                                                            "truncate by path",
                                                            "unlink",
                                                            "chmod by path",
                                                            "map writable",
                                                            "mprotect writable",
                                                            "ftruncate",
                                                            "punch a hole",
                                                            "re-open for writing",
                                                            "fchmod",
                                                            "pwrite",
                                                            "madvise remove",
                                                            "read",
                                                            "open"};
    std::uint32_t won = 0;
    std::array<int, names.size()> errors{};  ///< of those that failed

    static std::size_t number_of(std::string_view name) {
        return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
    }
    void note(std::string_view name, bool success) {
        if (success)
            won |= 1u << number_of(name);
        else
            errors[number_of(name)] = errno;
    }
    int error(std::string_view name) const { return errors[number_of(name)]; }
    std::string text() const {
        std::string all;
        for (std::size_t i = 0; i < names.size(); ++i)
            if ((won >> i & 1u) != 0) all.append(all.empty() ? "" : ", ").append(names[i]);
        return all;
    }
};

/// The attempts of operations by descriptor, then those by path; in the peer's process.
void try_descriptor(Attempts& attempts, int file, std::size_t page_bytes) {
    attempts.note("map writable",
                  ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED);
    void* readable = ::mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (readable != MAP_FAILED) {
        attempts.note("read", static_cast<const InfoPage*>(readable)->magic == InfoPage::magic_number);
        attempts.note("madvise remove", ::madvise(readable, page_bytes, MADV_REMOVE) == 0);
        attempts.note("mprotect writable", ::mprotect(readable, page_bytes, PROT_READ | PROT_WRITE) == 0);
    }
    attempts.note("ftruncate", ::ftruncate(file, 0) == 0);
    attempts.note("punch a hole", ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                              static_cast<off_t>(page_bytes)) == 0);
    attempts.note("re-open for writing", ::open(("/proc/self/fd/" + std::to_string(file)).c_str(), O_RDWR) >= 0);
    attempts.note("fchmod", ::fchmod(file, 0666) == 0);
    attempts.note("pwrite", ::pwrite(file, "x", 1, 0) == 1);
}

void try_path(Attempts& attempts, const std::string& path, std::size_t page_bytes) {
    attempts.note("open by path for writing", ::open(path.c_str(), O_RDWR) >= 0);
    attempts.note("truncate by path", ::truncate(path.c_str(), 0) == 0);
    attempts.note("chmod by path", ::chmod(path.c_str(), 0666) == 0);
    const int file = ::open(path.c_str(), O_RDONLY);
    attempts.note("open", file >= 0);
    if (file >= 0) try_descriptor(attempts, file, page_bytes);
    attempts.note("unlink", ::unlink(path.c_str()) == 0);
}

/// Runs `act` as user 65534 of the given group, in a child.
template <class Act>
Attempts as_peer(gid_t group, Act act) {
    void* shared = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    auto* const attempts = new (shared) Attempts;
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgroups(0, nullptr) != 0 || ::setresgid(group, group, group) != 0 ||
            ::setresuid(65534, 65534, 65534) != 0)
            ::_exit(1);
        act(*attempts);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    const Attempts result = *attempts;
    ::munmap(shared, 4096);
    return result;
}

void check_peers(const std::string& parent) {
    if (::geteuid() != 0) {
        MESSAGE("skipped: needs root, to become another user");
        return;
    }
    const Bench bench(parent);
    PacketRegion region(bench.config());
    const std::size_t page = region.file_page_bytes();
    struct stat status{};
    REQUIRE(::fstat(region.file(), &status) == 0);
    constexpr gid_t nobody = 65534;
    const std::string path = bench.config().path;
    const FileDescriptor view = region.read_only_view();
    region.pages()[0] = std::byte{0x42};

    CHECK(as_peer(status.st_gid, [&](Attempts& all) { try_path(all, path, page); }).text() == "read, open");
    CHECK(as_peer(nobody, [&](Attempts& all) { try_path(all, path, page); }).text().empty());
    CHECK(as_peer(nobody, [&](Attempts& all) { try_descriptor(all, view.get(), page); }).text() == "read");
    CHECK(as_peer(status.st_gid, [&](Attempts& all) { try_descriptor(all, view.get(), page); }).text() == "read");
    CHECK(
        as_peer(status.st_gid, [&](Attempts& all) { try_path(all, bench.config().ledger_path, page); }).text().empty());

    // Refused for what it is, not because the attempt was made in a wrong way.
    const Attempts refused = as_peer(nobody, [&](Attempts& all) { try_descriptor(all, view.get(), page); });
    CHECK(refused.error("map writable") == EACCES);
    CHECK(refused.error("mprotect writable") == EACCES);
    CHECK(refused.error("ftruncate") == EINVAL);
    CHECK(refused.error("punch a hole") == EBADF);
    CHECK(refused.error("re-open for writing") == EACCES);

    CHECK(mode_of(path) == 0640);
    CHECK(file_bytes(region.file()) == region.layout().region_bytes);
    CHECK(region.info().magic == InfoPage::magic_number);
    CHECK(region.pages()[0] == std::byte{0x42});
}

std::optional<std::string> huge_page_mount() {
    struct statfs status{};
    if (::statfs("/dev/hugepages", &status) != 0 || status.f_type != HUGETLBFS_MAGIC ||
        ::access("/dev/hugepages", W_OK) != 0)
        return std::nullopt;
    try {
        const Bench enough("/dev/hugepages");
        const PacketRegion region(enough.config());
    } catch (const std::system_error& error) {
        MESSAGE(error.what());
        return std::nullopt;
    }
    return "/dev/hugepages";
}

}  // namespace

TEST_CASE("VRX 2.2: a new region is zero but for its info page, and a reader finds every part of it") {
    const Bench bench;
    PacketRegion region(bench.config());
    CHECK_FALSE(region.reopened());
    CHECK(mode_of(bench.config().path) == 0640);
    CHECK(mode_of(bench.config().ledger_path) == 0600);

    const FileDescriptor view = region.read_only_view();
    const Mapping seen(view.get(), region.layout().region_bytes, 0, Access::read_only);
    const InfoPage info = *reinterpret_cast<const InfoPage*>(seen.data());
    const auto layout = check_region(info, seen.size());
    REQUIRE(layout.has_value());
    CHECK(*layout == region.layout());
    CHECK(layout->page_count >= 300);
    CHECK(info.modes == 0);
    constexpr std::array<std::uint8_t, 6> mac{2, 0, 0, 0, 0, 1};
    region.offer(mac, InfoPage::offers_pages);
    const auto& offered = *reinterpret_cast<const InfoPage*>(seen.data());
    CHECK(offered.modes == (InfoPage::offers_pages | InfoPage::has_header_table));
    CHECK(offered.mac == mac);
    CHECK(info.queue_pairs == 2);
    CHECK(info.held_limit == 100);
    CHECK(info.instance != std::array<std::uint8_t, 16>{});
    CHECK(info.instance == region.instance());
    CHECK(std::ranges::all_of(seen.bytes().subspan(sizeof(InfoPage)), [](std::byte b) { return b == std::byte{0}; }));
    CHECK_THROWS_AS(Mapping(view.get(), 4096, 0, Access::read_write), std::system_error);
}

TEST_CASE("VRX 7.5: a process that comes back finds its pages, their content, and who has them") {
    const Bench bench;
    std::array<std::uint8_t, 16> instance{};
    {
        PacketRegion region(bench.config());
        instance = region.instance();
        region.pages()[12345] = std::byte{0x42};
        region.ledger().lend(1, PageId{17});
        region.ledger().next_generation(1);
        region.offer({2, 0, 0, 0, 0, 1}, InfoPage::offers_pages);
    }
    PacketRegion region(bench.config());
    CHECK(region.reopened());
    CHECK(region.instance() == instance);
    CHECK(region.pages()[12345] == std::byte{0x42});
    CHECK(region.ledger().is_lent_to(1, PageId{17}));
    CHECK(region.info().generation[1] == 1);
    CHECK(region.info().modes == 0);  // until it is offered again
}

TEST_CASE(
    "VRX 7.5: without the ledger, with another file in its place, or with another shape, the region is a new one") {
    const Bench bench;
    const auto instance = PacketRegion(bench.config()).instance();
    PacketRegion::Config config = bench.config();
    SUBCASE("the ledger is gone") {
        std::filesystem::remove(config.ledger_path);
    }
    SUBCASE("the ledger is cut short") {
        std::filesystem::resize_file(config.ledger_path, 100);
    }
    SUBCASE("the region is gone") {
        std::filesystem::remove(config.path);
    }
    SUBCASE("the region is a copy") {
        std::filesystem::copy_file(config.path, config.path + ".copy");
        std::filesystem::rename(config.path + ".copy", config.path);
        ::chmod(config.path.c_str(), 0640);
    }
    SUBCASE("somebody may write the region") {
        ::chmod(config.path.c_str(), 0660);
    }
    SUBCASE("the region has a second name") {
        std::filesystem::create_hard_link(config.path, config.path + ".second");
    }
    SUBCASE("the region was resized") {
        std::filesystem::resize_file(config.path, 4096);
    }
    SUBCASE("the region's instance is another") {
        const FileDescriptor file = open(config.path, O_RDWR);
        const Mapping mapping(file.get(), 4096, 0, Access::read_write);
        reinterpret_cast<InfoPage*>(mapping.data())->instance[0] ^= 1;
    }
    SUBCASE("more pages are wanted") {
        config.wanted_pages *= 4;
    }
    SUBCASE("more queues are wanted") {
        config.queues = 3;
    }
    SUBCASE("larger pages are wanted") {
        config.page_bytes = 16384;
    }
    PacketRegion region(config);
    CHECK_FALSE(region.reopened());
    CHECK(region.instance() != instance);
    CHECK(region.ledger().lent_to(0) == 0);
    CHECK(mode_of(config.path) == 0640);
    CHECK(check_region(region.info(), region.layout().region_bytes).has_value());
}

TEST_CASE("two processes never use the same pages") {
    const Bench bench;
    const PacketRegion first(bench.config());
    try {
        const PacketRegion second(bench.config());
        FAIL("a second one was had");
    } catch (const std::system_error& error) {
        CHECK(error.code().value() == EBUSY);
    }
}

TEST_CASE("a file that is not in memory is refused, with what to do, and nothing is left") {
    struct statfs status{};
    const Bench bench(std::filesystem::temp_directory_path().string());
    REQUIRE(::statfs(bench.regions.path.c_str(), &status) == 0);
    if (status.f_type == TMPFS_MAGIC) {
        MESSAGE("skipped: the directory for temporary files is in memory");
        return;
    }
    try {
        const PacketRegion region(bench.config());
        FAIL("packet pages on a disk");
    } catch (const std::system_error& error) {
        const std::string_view text(error.what());
        CHECK(error.code().value() == EINVAL);
        CHECK(text.starts_with(bench.config().path + ": packet pages must lie in memory"));
        CHECK(text.find("mount -t hugetlbfs") != std::string_view::npos);
    }
    CHECK(std::filesystem::is_empty(bench.regions.path));
    CHECK(std::filesystem::is_empty(bench.private_files.path));
}

TEST_CASE("a name that is a link, a directory, or somebody else's file is refused and left alone") {
    const Bench bench;
    const std::string path = bench.config().path;
    SUBCASE("link") {
        const std::string target = bench.regions / "target";
        open(target, O_CREAT | O_RDWR, 0600);
        std::filesystem::create_symlink(target, path);
        CHECK_THROWS_AS(PacketRegion(bench.config()), std::system_error);
        CHECK(std::filesystem::is_symlink(path));
        CHECK(std::filesystem::file_size(target) == 0);
    }
    SUBCASE("directory") {
        std::filesystem::create_directory(path);
        CHECK_THROWS_AS(PacketRegion(bench.config()), std::system_error);
        CHECK(std::filesystem::is_directory(path));
    }
    SUBCASE("somebody else's") {
        open(path, O_CREAT | O_RDWR, 0600);
        if (::chown(path.c_str(), 65534, 65534) != 0) {
            MESSAGE("skipped: needs root, to give a file away");
            return;
        }
        CHECK_THROWS_AS(PacketRegion(bench.config()), std::system_error);
        CHECK(std::filesystem::exists(path));
    }
}

TEST_CASE("a clean end leaves no file, and tells those who still look") {
    const Bench bench;
    PacketRegion region(bench.config());
    region.offer({2, 0, 0, 0, 0, 1}, InfoPage::offers_pages);
    const FileDescriptor view = region.read_only_view();
    region.withdraw();
    CHECK_FALSE(std::filesystem::exists(bench.config().path));
    CHECK_FALSE(std::filesystem::exists(bench.config().ledger_path));
    const Mapping seen(view.get(), 4096, 0, Access::read_only);
    CHECK(reinterpret_cast<const InfoPage*>(seen.data())->modes == 0);
}

TEST_CASE("what a killed process left is removed, but not while one uses it") {
    const Bench bench;
    const PacketRegion::Config config = bench.config();
    {
        const PacketRegion region(config);
        try {
            PacketRegion::remove(config.path, config.ledger_path);
            FAIL("the pages of a living process were removed");
        } catch (const std::system_error& error) {
            CHECK(error.code().value() == EBUSY);
        }
        CHECK(std::filesystem::exists(config.path));
        CHECK(std::filesystem::exists(config.ledger_path));
    }
    PacketRegion::remove(config.path, config.ledger_path);
    CHECK_FALSE(std::filesystem::exists(config.path));
    CHECK_FALSE(std::filesystem::exists(config.ledger_path));
    PacketRegion::remove(config.path, config.ledger_path);  // nothing there is no error
}

TEST_CASE("VRX 11: a peer of the region's group can read it and nothing else; others cannot even do that") {
    check_peers(test::in_memory);
}

TEST_CASE("VRX 11: the same holds on huge pages") {
    const auto mount = huge_page_mount();
    if (!mount) {
        MESSAGE("skipped: no huge pages at /dev/hugepages");
        return;
    }
    check_peers(*mount);
}
