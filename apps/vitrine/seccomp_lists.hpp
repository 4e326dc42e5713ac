#pragma once

#include <array>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/vfio.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "apps/vitrine/seccomp.hpp"
#include "driver/iommufd_abi.hpp"

// Which system calls each thread makes, found with strace under the end-to-end tests and in a guest with the C library
// of Debian 13. What a list lacks is refused by name: see seccomp.hpp.

namespace vitrine::apps {

inline constexpr std::uint64_t whole_word = 0xffffffff;
inline constexpr std::uint64_t all_64_bits = ~std::uint64_t{0};
inline constexpr std::uint64_t unnamed_file = O_TMPFILE & ~O_DIRECTORY;

inline constexpr AllowedCall map_without_execution{SCMP_SYS(mmap), 2, PROT_EXEC, 0};
inline constexpr AllowedCall signal_poll_thread{SCMP_SYS(tgkill), 2, whole_word, SIGUSR1, true};
inline constexpr AllowedCall abort_ourselves{SCMP_SYS(tgkill), 2, whole_word, SIGABRT, true};

/// The poll thread: eventfds, its sleep, tail writes as messages; memory that a lost guest page or the allocator needs;
/// and its end.
inline constexpr auto poll_thread_calls = std::to_array<AllowedCall>({
    {SCMP_SYS(poll)},
    {SCMP_SYS(restart_syscall)},  // a poll() that was stopped and continued
    {SCMP_SYS(read)},
    {SCMP_SYS(preadv2)},  // a front-end's eventfd may block: RWF_NOWAIT
    {SCMP_SYS(write)},
    {SCMP_SYS(sendto), 4, all_64_bits, 0},
    {SCMP_SYS(pwrite64)},       // to a BAR that cannot be mapped
    {SCMP_SYS(clock_gettime)},  // where the vDSO has no clock
    {SCMP_SYS(futex)},
    map_without_execution,
    {SCMP_SYS(munmap)},
    {SCMP_SYS(madvise)},
    {SCMP_SYS(brk)},
    {SCMP_SYS(rt_sigreturn)},
    {SCMP_SYS(rt_sigprocmask)},
    {SCMP_SYS(gettid)},
    {SCMP_SYS(getpid)},
    abort_ourselves,
    {SCMP_SYS(exit)},
    {SCMP_SYS(exit_group)},
});

/// The control thread once everything is up. It can still lose the VF and open it again, through either door, and
/// serve any number of front-ends.
inline constexpr auto control_thread_calls = std::to_array<AllowedCall>({
    // Waiting, and the poll thread.
    {SCMP_SYS(epoll_wait)},
    {SCMP_SYS(epoll_ctl)},
    {SCMP_SYS(poll)},
    {SCMP_SYS(restart_syscall)},
    {SCMP_SYS(clock_nanosleep)},
    {SCMP_SYS(clock_gettime)},
    {SCMP_SYS(futex)},
    signal_poll_thread,
    // Sockets, all of them UNIX sockets. What is sent goes to whom it is connected with.
    {SCMP_SYS(accept4)},
    {SCMP_SYS(getsockopt)},
    {SCMP_SYS(shutdown)},
    {SCMP_SYS(sendmsg)},
    {SCMP_SYS(recvmsg)},
    {SCMP_SYS(sendto), 4, all_64_bits, 0},
    {SCMP_SYS(recvfrom)},
    // Descriptors. Nothing is created: that came before.
    {SCMP_SYS(read)},
    {SCMP_SYS(write)},
    {SCMP_SYS(preadv2)},
    {SCMP_SYS(close)},
    {SCMP_SYS(eventfd2)},
    {SCMP_SYS(fcntl)},
    {SCMP_SYS(newfstatat)},
    {SCMP_SYS(fstat)},
    {SCMP_SYS(fstatfs)},
    {SCMP_SYS(lseek)},
    {SCMP_SYS(openat), 2, O_CREAT | unnamed_file, 0},
    {SCMP_SYS(getdents64)},
    {SCMP_SYS(readlink)},
    // The VF through the kernel.
    {SCMP_SYS(pread64)},
    {SCMP_SYS(pwrite64)},
    {SCMP_SYS(epoll_create1)},
    {SCMP_SYS(geteuid)},                       // for the error of a group that is not ours
    {SCMP_SYS(prlimit64), 2, all_64_bits, 0},  // for that of too low a limit: reads only
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_GET_API_VERSION},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_CHECK_EXTENSION},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_SET_IOMMU},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_GROUP_GET_STATUS},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_GROUP_SET_CONTAINER},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_GROUP_GET_DEVICE_FD},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_DEVICE_GET_INFO},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_DEVICE_GET_REGION_INFO},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_DEVICE_GET_IRQ_INFO},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_DEVICE_SET_IRQS},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_DEVICE_RESET},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_IOMMU_GET_INFO},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_IOMMU_MAP_DMA},
    {SCMP_SYS(ioctl), 1, whole_word, VFIO_IOMMU_UNMAP_DMA},
    {SCMP_SYS(access)},  // whether it may use an iommufd
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::bind_device},
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::attach_device},
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::allocate_space},
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::read_ranges},
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::map_memory},
    {SCMP_SYS(ioctl), 1, whole_word, driver::iommufd::unmap_memory},
    // Memory.
    map_without_execution,
    {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
    {SCMP_SYS(mremap)},
    {SCMP_SYS(munmap)},
    {SCMP_SYS(madvise)},
    {SCMP_SYS(brk)},
    {SCMP_SYS(rt_sigaction), 0, whole_word, SIGBUS},  // a front-end may take guest memory away
    // The end.
    {SCMP_SYS(rt_sigreturn)},
    {SCMP_SYS(rt_sigprocmask)},
    {SCMP_SYS(getpid)},
    {SCMP_SYS(gettid)},
    abort_ourselves,
    {SCMP_SYS(unlink)},
    {SCMP_SYS(rmdir)},
    {SCMP_SYS(exit_group)},
});

/// Of a VF behind a socket, and of a front-end that listens, which the control thread calls again when they are back.
/// No other process of this machine is to be called: a path cannot be checked here, and to Landlock a socket is no
/// file.
inline constexpr auto calling_calls = std::to_array<AllowedCall>({
    {SCMP_SYS(socket), 0, whole_word, AF_UNIX},
    {SCMP_SYS(connect)},
});

/// What only the start needs: files, directories and sockets are made, memory is had and locked, the walls go up.
inline constexpr auto starting_calls = std::to_array<AllowedCall>({
    {SCMP_SYS(openat)},
    {SCMP_SYS(statfs)},
    {SCMP_SYS(mkdir)},
    {SCMP_SYS(chmod)},
    {SCMP_SYS(umask)},
    {SCMP_SYS(socket), 0, whole_word, AF_UNIX},
    {SCMP_SYS(connect)},  // to the service manager
    {SCMP_SYS(bind)},
    {SCMP_SYS(listen)},
    {SCMP_SYS(signalfd4)},
    {SCMP_SYS(memfd_create)},
    {SCMP_SYS(flock)},
    {SCMP_SYS(ftruncate)},
    {SCMP_SYS(fchmod)},
    {SCMP_SYS(mlock)},
    {SCMP_SYS(uname)},
    {SCMP_SYS(sysinfo)},
    {SCMP_SYS(getrandom)},
    {SCMP_SYS(getuid)},
    {SCMP_SYS(capget)},
    {SCMP_SYS(prlimit64)},
    {SCMP_SYS(prctl)},
    {SCMP_SYS(seccomp)},
    {SCMP_SYS(landlock_create_ruleset)},
    {SCMP_SYS(landlock_add_rule)},
    {SCMP_SYS(landlock_restrict_self)},
    {SCMP_SYS(rt_sigaction)},
    // One thread more. clone3 has its flags in memory, where no filter looks; the C library then takes clone.
    {.number = SCMP_SYS(clone3), .pretend_missing = true},
    {SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD},
    {SCMP_SYS(set_robust_list)},
    {SCMP_SYS(rseq)},
    {SCMP_SYS(sched_getaffinity)},
    {SCMP_SYS(exit)},
});

}  // namespace vitrine::apps
