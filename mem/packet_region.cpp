#include "mem/packet_region.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <system_error>
#include <unistd.h>

namespace vitrine::mem {
namespace {

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

/// Of the file system that `path` lies or will lie on: a huge page on hugetlbfs, a small one on tmpfs. On any other the
/// kernel would write frames to a disk, and hold them back from the NIC meanwhile.
std::size_t file_page_bytes_at(const std::string& path) {
    const std::string directory = directory_of(path);
    struct statfs status{};
    if (::statfs(directory.c_str(), &status) != 0) throw_errno("statfs " + directory);
    if (status.f_type != HUGETLBFS_MAGIC && status.f_type != TMPFS_MAGIC)
        throw std::system_error(EINVAL, std::generic_category(),
                                path +
                                    ": packet pages must lie in memory, and this is neither hugetlbfs nor tmpfs "
                                    "(mount -t hugetlbfs none /dev/hugepages, then name a file there; or in /dev/shm)");
    return static_cast<std::size_t>(status.f_bsize);
}

struct stat status_of(int descriptor) {
    struct stat status{};
    if (::fstat(descriptor, &status) != 0) throw_errno("fstat");
    return status;
}

/// The ledger's file, locked: two processes that write one region would be the end of both.
FileDescriptor open_ledger(const std::string& path) {
    FileDescriptor file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        const int error = errno == EWOULDBLOCK ? EBUSY : errno;
        throw std::system_error(error, std::generic_category(), path + ": another process uses these pages");
    }
    const struct stat status = status_of(file.get());
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid())
        throw std::system_error(EPERM, std::generic_category(), path + ": not a file of ours");
    return file;
}

/// A file that is in the way goes, if it is one of ours.
void remove_old(const std::string& path) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return;
        throw_errno("stat " + path);
    }
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid())
        throw std::system_error(EPERM, std::generic_category(), path + ": in the way, and not a file of ours");
    if (::unlink(path.c_str()) != 0) throw_errno("unlink " + path);
}

Mapping map_populated(int file, std::size_t bytes, const std::string& what) {
    try {
        Mapping mapping(file, bytes, 0, Access::read_write);
        mapping.populate();
        return mapping;
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), what + ": " + std::to_string(bytes >> 20) + " MiB needed there");
    }
}

}  // namespace

PacketRegion::PacketRegion(const Config& config)
    : path_(config.path),
      ledger_path_(config.ledger_path),
      file_page_bytes_(file_page_bytes_at(config.path)),
      ledger_file_(open_ledger(config.ledger_path)),
      layout_(region_layout(config.wanted_pages, config.page_bytes, file_page_bytes_)) {
    reopened_ = reopen(config);
    if (!reopened_) create(config);
    describe(config);
}

PageLedger::Identity PacketRegion::identity_of(const FileDescriptor& file) const {
    const struct stat status = status_of(file.get());
    return {.device = status.st_dev,
            .inode = status.st_ino,
            .instance = {},
            .page_bytes = static_cast<std::uint32_t>(layout_.page_bytes),
            .page_count = static_cast<std::uint32_t>(layout_.page_count),
            .queues = 0};
}

/// True when ledger and region are those of a former process, with the layout that is asked for.
bool PacketRegion::reopen(const Config& config) {
    const std::size_t ledger_bytes = PageLedger::bytes_for(layout_.page_count, config.queues);
    if (file_bytes(ledger_file_.get()) != ledger_bytes) return false;
    Mapping ledger_mapping(ledger_file_.get(), ledger_bytes, 0, Access::read_write);
    const auto ledger = PageLedger::in(ledger_mapping.bytes());
    if (!ledger) return false;

    FileDescriptor file(::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return false;
    const struct stat status = status_of(file.get());
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1 ||
        (status.st_mode & 07777) != 0640 || static_cast<std::uint64_t>(status.st_size) != layout_.region_bytes)
        return false;
    Mapping mapping = map_populated(file.get(), layout_.region_bytes, path_);
    PageLedger::Identity identity = identity_of(file);
    identity.instance = reinterpret_cast<const InfoPage*>(mapping.data())->instance;
    identity.queues = config.queues;
    if (ledger->identity() != identity) return false;

    ledger_mapping_ = std::move(ledger_mapping);
    ledger_ = *ledger;
    file_ = std::move(file);
    mapping_ = std::move(mapping);
    return true;
}

void PacketRegion::create(const Config& config) {
    // A ledger that is being made names no region: a crash from here on leaves files that nobody will believe.
    if (::ftruncate(ledger_file_.get(), 0) != 0) throw_errno("truncate " + ledger_path_);
    remove_old(path_);
    file_ = open(path_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (::ftruncate(file_.get(), static_cast<off_t>(layout_.region_bytes)) != 0) throw_errno("ftruncate " + path_);
    mapping_ = map_populated(file_.get(), layout_.region_bytes, path_);
    PageLedger::Identity identity = identity_of(file_);
    if (::getrandom(identity.instance.data(), identity.instance.size(), 0) !=
        static_cast<ssize_t>(identity.instance.size()))
        throw_errno("getrandom");
    identity.queues = config.queues;

    const std::size_t ledger_bytes = PageLedger::bytes_for(layout_.page_count, config.queues);
    if (::ftruncate(ledger_file_.get(), static_cast<off_t>(ledger_bytes)) != 0)
        throw_errno("ftruncate " + ledger_path_);
    ledger_mapping_ = map_populated(ledger_file_.get(), ledger_bytes, ledger_path_);
    info().instance = identity.instance;
    if (::fchmod(file_.get(), 0640) != 0) throw_errno("fchmod " + path_);
    ledger_ = PageLedger::make(ledger_mapping_.bytes(), identity);
}

/// The info page, anew at each start.
void PacketRegion::describe(const Config& config) {
    InfoPage& page = info();
    page.version = InfoPage::version_number;
    page.info_bytes = sizeof(InfoPage);
    page.modes = 0;
    page.header_stride = header_slot_bytes;
    page.queue_pairs = static_cast<std::uint16_t>(config.queues);
    page.page_bytes = static_cast<std::uint32_t>(layout_.page_bytes);
    page.page_count = static_cast<std::uint32_t>(layout_.page_count);
    page.pages_offset = layout_.pages_offset;
    page.headers_offset = layout_.headers_offset;
    page.held_limit = config.held_limit;
    for (unsigned queue = 0; queue < config.queues; ++queue)
        std::atomic_ref(page.generation[queue]).store(ledger_.generation(queue), std::memory_order_relaxed);
    // Release: a driver that sees the magic sees the rest.
    std::atomic_ref(page.magic).store(InfoPage::magic_number, std::memory_order_release);
}

FileDescriptor PacketRegion::read_only_view() const {
    return open("/proc/self/fd/" + std::to_string(file_.get()), O_RDONLY);
}

void PacketRegion::offer(const std::array<std::uint8_t, 6>& mac, std::uint32_t modes) noexcept {
    info().mac = mac;
    // Release: who sees the modes sees whose they are.
    std::atomic_ref(info().modes).store(modes | InfoPage::has_header_table, std::memory_order_release);
}

void PacketRegion::remove(const std::string& path, const std::string& ledger_path) {
    FileDescriptor ledger;  // while it is locked nobody begins to use the pages
    if (::access(ledger_path.c_str(), F_OK) == 0) ledger = open_ledger(ledger_path);
    remove_old(path);
    if (ledger) ::unlink(ledger_path.c_str());
}

void PacketRegion::withdraw() noexcept {
    std::atomic_ref(info().modes).store(0, std::memory_order_release);
    PageLedger::spoil(ledger_mapping_.bytes());
    ::unlink(path_.c_str());
    ::unlink(ledger_path_.c_str());
}

}  // namespace vitrine::mem
