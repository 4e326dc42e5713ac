#include "apps/vitrine/seccomp.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <seccomp.h>
#include <string>
#include <sys/syscall.h>
#include <system_error>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#include "mem/file_descriptor.hpp"

namespace vitrine::apps {
namespace {

// What the signal handler needs, which may not allocate: filled in before the first filter.
constexpr std::size_t most_calls = 512;
std::array<std::array<char, 32>, most_calls> call_names;
std::array<std::atomic<bool>, most_calls> named_already;
std::atomic<bool> refuse_only = false;
thread_local const char* thread_name = "start";

/// A line on stderr without the logger, which may be what the signal interrupted.
void name_call(std::size_t number) {
    std::array<char, 192> line{};
    std::size_t length = 0;
    const auto add = [&](const char* text) {
        for (; *text != '\0' && length < line.size(); ++text) line[length++] = *text;
    };
    add("vitrine: critical: seccomp: system call ");
    add(number < most_calls && call_names[number][0] != '\0' ? call_names[number].data() : "of an unknown number");
    add(" of the ");
    add(thread_name);
    add(" thread is on no list of vitrine's");
    add(refuse_only ? " and was refused\n" : " (report it; --seccomp=errno lives with it)\n");
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), length);
}

void on_forbidden_call(int, siginfo_t* what, void* context) {
    const int saved = errno;
    const auto number = static_cast<std::size_t>(what->si_syscall);
    if (!refuse_only) {
        name_call(number);
        ::syscall(SYS_tgkill, ::getpid(), ::gettid(), SIGSYS);  // on each list: kills the process
        std::abort();
    }
    if (number >= most_calls || !named_already[number].exchange(true)) name_call(number);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -EPERM;
    errno = saved;
}

void install_handler() {
    static const bool installed = [] {
        for (std::size_t number = 0; number < most_calls; ++number) {
            const std::unique_ptr<char, decltype(&std::free)> name(
                seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &std::free);
            if (name) std::strncpy(call_names[number].data(), name.get(), call_names[number].size() - 1);
        }
        struct sigaction action{};
        action.sa_sigaction = on_forbidden_call;
        action.sa_flags = SA_SIGINFO;
        return ::sigaction(SIGSYS, &action, nullptr) == 0;
    }();
    if (!installed) throw std::system_error(errno, std::generic_category(), "handle SIGSYS");
}

void check(int result, const char* attempt) {
    if (result != 0) throw std::system_error(-result, std::generic_category(), std::string("seccomp: ") + attempt);
}

scmp_arg_cmp equal(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void add(scmp_filter_ctx filter, const AllowedCall& call) {
    std::vector<scmp_arg_cmp> conditions;
    if (call.to_ourselves) conditions.push_back(equal(0, 0xffffffff, static_cast<std::uint64_t>(::getpid())));
    if (call.mask != 0) conditions.push_back(equal(call.argument, call.mask, call.value));
    const std::uint32_t action = call.pretend_missing ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_ALLOW;
    check(seccomp_rule_add_array(filter, action, call.number, static_cast<unsigned>(conditions.size()),
                                 conditions.data()),
          "add a call");
}

}  // namespace

void allow_only(SeccompMode mode, std::span<const AllowedCall> calls, const char* thread) {
    thread_name = thread;
    if (mode == SeccompMode::off) return;
    install_handler();
    refuse_only = mode == SeccompMode::refuse;
    const std::uint32_t otherwise = mode == SeccompMode::log ? SCMP_ACT_LOG : SCMP_ACT_TRAP;
    const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(otherwise), &seccomp_release);
    if (!filter) throw std::system_error(ENOMEM, std::generic_category(), "seccomp");
    // Another architecture's calls have other numbers: no mode is lenient with them.
    check(seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "other architectures");
    check(seccomp_attr_set(filter.get(), SCMP_FLTATR_API_SYSRAWRC, 1), "error codes");
    for (const AllowedCall& call : calls) add(filter.get(), call);
    if (mode == SeccompMode::kill) {
        const scmp_arg_cmp last_signal = equal(2, 0xffffffff, SIGSYS);
        check(seccomp_rule_add_array(filter.get(), SCMP_ACT_KILL_PROCESS, SCMP_SYS(tgkill), 1, &last_signal), "kill");
    }
    check(seccomp_load(filter.get()), "load");
}

}  // namespace vitrine::apps
