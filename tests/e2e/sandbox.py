#!/usr/bin/python3
"""What vitrine keeps of what it was started with: no file, no variable, no right, and no way to look into it."""

import errno
import os
import pathlib
import signal
import socket
import sys
import tempfile

import harness
from harness import BUILD, NOBODY, Daemon, Lab, Process, expect, expect_equal

sys.path.append(os.fspath(harness.ROOT / "tests/support"))
import forced_call  # noqa: E402  # beside the tests of other languages

SMALL = ("--memory", "small")
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def process_file(process: Process, name: str) -> pathlib.Path:
    return pathlib.Path("/proc") / str(process.child.pid) / name


def threads_of(process: Process) -> list[dict[str, str]]:
    """What the kernel says of each of its threads."""
    files = sorted(process_file(process, "task").glob("*/status"))
    return [dict(line.split(":\t", 1) for line in file.read_text().splitlines() if ":\t" in line) for file in files]


def expect_no_rights(daemon: Daemon, sets: tuple[str, ...]) -> None:
    threads = threads_of(daemon)
    expect_equal(len(threads), 2, "threads")
    for thread in threads:
        for name in sets:
            expect_equal(int(thread[name], 16), 0, f"{name} of {thread['Name']}")
        expect_equal(thread["NoNewPrivs"], "1", f"NoNewPrivs of {thread['Name']}")


def refuses_root(lab: Lab) -> None:
    process = lab.process("refused", [BUILD / "vitrine", "run", "--run-dir", lab.directory / "run",
                                      "--vf", f"vfio-user:{lab.directory / 'vf.sock'}"])
    expect_equal(process.finish(), 1, "exit code")
    expect_equal(len(process.errors.splitlines()), 1, f"lines in {process.errors!r}")
    for word in ("root", "vitrine@.service", "--allow-root"):
        expect(word in process.errors, f"{word!r} is missing in {process.errors!r}")
    expect(not (lab.directory / "run").exists(), "it made a run directory first")


def root_keeps_no_capability(lab: Lab) -> None:
    lab.simulator("null")
    daemon = lab.daemon()
    expect_no_rights(daemon, CAPABILITY_SETS)


def closes_what_it_inherits(lab: Lab) -> None:
    lab.simulator("null")
    read_end, write_end = os.pipe()
    daemon = lab.daemon(pass_fds=(read_end, write_end))
    os.close(write_end)
    os.set_blocking(read_end, False)
    try:
        expect_equal(os.read(read_end, 1), b"", "bytes from a pipe that nobody else has")
    except BlockingIOError:
        expect(False, "it kept the pipe")
    os.close(read_end)
    names = [os.readlink(file) for file in process_file(daemon, "fd").iterdir()]
    expect(not any(name.startswith("pipe:") for name in names), f"a pipe is still open: {names}")


def empties_its_environment(lab: Lab) -> None:
    lab.simulator("null")
    daemon = lab.daemon(env={**os.environ, "VITRINE_TEST_SECRET": "do not keep"})
    left = process_file(daemon, "environ").read_bytes().strip(b"\0")
    expect_equal(left, b"", "what is left of the environment")


def leaves_no_core(lab: Lab) -> None:
    lab.simulator("null")
    daemon = lab.daemon()
    limits = process_file(daemon, "limits").read_text().splitlines()
    core = next(line.split() for line in limits if line.startswith("Max core file size"))
    expect_equal(core[4:6], ["0", "0"], "limits of the core file")
    files = next(line.split() for line in limits if line.startswith("Max open files"))
    expect(int(files[4]) <= 1024, f"it may open many files: {files}")


def serves_a_vm_without_any_right(lab: Lab) -> None:
    """As the user that a unit would give it. What it is given is its run directory and the VF."""
    simulator = lab.simulator("null")
    simulator.socket.chmod(0o666)
    daemon = lab.daemon(*SMALL, before=harness.as_nobody(lab.directory), trust=())
    # The bounding set can be emptied only by who has capabilities.
    expect_no_rights(daemon, tuple(name for name in CAPABILITY_SETS if name != "CapBnd"))
    expect_equal(threads_of(daemon)[0]["Uid"].split(), [str(NOBODY)] * 4, "user")
    # Files in /proc of a process that its own user may trace belong to that user.
    expect_equal(process_file(daemon, "environ").stat().st_uid, 0, "user whom /proc shows its memory to")
    expect_equal(lab.guest("tx", "--count", "1000").report()["bad"], 0, "bad frames")
    daemon.expect_clean_audit()
    expect_equal(daemon.terminate(), 0, "exit code")
    expect_equal(list((lab.directory / "run").iterdir()), [], "what it left in its directory")


def refuses_a_front_end_of_its_own_user(lab: Lab) -> None:
    lab.simulator("null").socket.chmod(0o666)
    nobody = harness.as_nobody(lab.directory)
    daemon = lab.daemon(*SMALL, before=nobody, trust=())
    guest = [BUILD / "vitrine-guest", "tx", "--socket", daemon.socket, "--count", "1000"]
    expect(lab.process("same-user", [*nobody, *guest]).finish() != 0, "a front-end of the same user was served")
    status = daemon.status()["front_end"]
    expect(status["refused_for_user"] > 0 and not status["connected"], f"front-end in the status: {status}")
    refusals = [line for line in daemon.errors.splitlines() if "refused" in line]
    expect_equal(len(refusals), 1, f"lines about it in {daemon.errors!r}")
    for word in ("own user", "--allow-same-uid"):
        expect(word in refusals[0], f"{word!r} is missing in {refusals[0]!r}")
    lab.guest("tx", "--count", "1000").report()  # of another user: root
    daemon.terminate()

    daemon = lab.daemon(*SMALL, before=nobody, trust=("--allow-same-uid",))
    served = lab.process("same-user", [*nobody, *guest])
    expect_equal(served.finish(), 0, f"exit code of a front-end that is allowed, which said {served.errors}")


GETPPID = 110  # harmless, and nothing that vitrine does


def thread_number(daemon: Daemon, thread: str) -> int:
    """The control thread is the first one, and has the number of the process."""
    numbers = sorted(int(path.name) for path in process_file(daemon, "task").iterdir())
    return numbers[0 if thread == "control" else 1]


def expect_named(daemon: Daemon, thread: str) -> None:
    lines = [line for line in daemon.errors.splitlines() if "seccomp" in line]
    expect_equal(len(lines), 1, f"lines about it in {daemon.errors!r}")
    for word in ("getppid", f"of the {thread} thread"):
        expect(word in lines[0], f"{word!r} is missing in {lines[0]!r}")


def kills_at_a_forbidden_call(lab: Lab, thread: str) -> None:
    """By default."""
    lab.simulator("null")
    daemon = lab.daemon(*SMALL, trust=("--allow-root",))
    try:
        result = forced_call.force_call(thread_number(daemon, thread), GETPPID)
        expect(False, f"the call came back with {result}")
    except forced_call.Killed as killed:
        expect_equal(killed.args[0], signal.SIGSYS, "signal that ended it")
    daemon.finish()
    expect_named(daemon, thread)


def refuses_a_forbidden_call(lab: Lab, thread: str) -> None:
    lab.simulator("null")
    daemon = lab.daemon(*SMALL, trust=("--allow-root", "--seccomp", "errno"))
    for _ in range(3):  # named once
        expect_equal(forced_call.force_call(thread_number(daemon, thread), GETPPID), -errno.EPERM, "result of the call")
    expect_named(daemon, thread)
    lab.guest("tx", "--count", "1000").report()


def lets_a_forbidden_call_pass(lab: Lab, mode: str, filtered: bool) -> None:
    lab.simulator("null")
    daemon = lab.daemon(*SMALL, trust=("--allow-root", "--seccomp", mode))
    expect_equal(daemon.status()["sandbox"]["seccomp"], mode, "mode in vitrinectl status")
    expect_equal([thread["Seccomp"] for thread in threads_of(daemon)], [str(2 * filtered)] * 2, "Seccomp in /proc")
    expect_equal(forced_call.force_call(thread_number(daemon, "control"), GETPPID), os.getpid(), "result of getppid")
    expect("seccomp" not in daemon.errors, f"it complains of what it allows: {daemon.errors}")
    lab.guest("tx", "--count", "1000").report()


AT_FDCWD, O_RDONLY, O_CREAT = -100, 0, 0o100
OPENAT, SOCKET, MMAP, MPROTECT, IOCTL, CLONE, CLONE3, EXECVE, TGKILL = 257, 41, 9, 10, 16, 56, 435, 59, 234
PROT_READ, PROT_EXEC, PRIVATE_ANONYMOUS = 1, 4, 0x22
TCGETS = 0x5401
REFUSED = [
    ("a network socket", SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0),
    ("a netlink socket", SOCKET, socket.AF_NETLINK, socket.SOCK_RAW, 0),
    ("executable memory", MMAP, 0, 4096, PROT_READ | PROT_EXEC, PRIVATE_ANONYMOUS, -1, 0),
    ("an ioctl of a terminal", IOCTL, 2, TCGETS, 0),
    ("a new file", OPENAT, AT_FDCWD, b"/tmp/vitrine-must-not-be", O_CREAT, 0o600),
    ("a thread", CLONE, 0x10f00, 0, 0, 0, 0),
    ("a process", CLONE3, 0, 88),
    ("a program", EXECVE, b"/bin/sh", 0, 0),
    ("a signal to another process", TGKILL, 1, 1, signal.SIGUSR1),
]


def refuses_by_argument(lab: Lab) -> None:
    lab.simulator("null")
    daemon = lab.daemon(*SMALL, trust=("--allow-root", "--seccomp", "errno"))
    control = thread_number(daemon, "control")
    for what, number, *arguments in REFUSED:
        expect_equal(forced_call.force_call(control, number, *arguments), -errno.EPERM, what)
    expect(forced_call.force_call(control, SOCKET, socket.AF_UNIX, socket.SOCK_STREAM, 0) > 0, "a UNIX socket")
    expect(forced_call.force_call(control, MMAP, 0, 4096, PROT_READ, PRIVATE_ANONYMOUS, -1, 0) > 0, "memory")
    poller = thread_number(daemon, "poll")
    for what, number, *arguments in [*REFUSED, ("a UNIX socket", SOCKET, socket.AF_UNIX, socket.SOCK_STREAM, 0),
                                     ("a file", OPENAT, AT_FDCWD, b"/etc/machine-id", O_RDONLY)]:
        expect_equal(forced_call.force_call(poller, number, *arguments), -errno.EPERM, f"{what}, by the poll thread")


def opens_no_other_file(lab: Lab) -> None:
    lab.simulator("null")
    daemon = lab.daemon(*SMALL)
    if daemon.status()["sandbox"]["landlock"] == 0:
        print("SKIP: files: this kernel has no Landlock", flush=True)
        return
    secret = lab.directory / "secret"
    secret.write_text("not for vitrine")
    control = thread_number(daemon, "control")
    for path in (os.fspath(secret), "/etc/passwd", "/proc/self/mem", "/dev/null"):
        result = forced_call.force_call(control, OPENAT, AT_FDCWD, path.encode(), O_RDONLY)
        expect_equal(result, -errno.EACCES, f"result of opening {path}")
    # What it needs to open a lost VF again.
    for path in ("/etc/machine-id", "/sys/devices", "/sys/class/net"):
        expect(forced_call.force_call(control, OPENAT, AT_FDCWD, path.encode(), O_RDONLY) > 0, f"it cannot open {path}")


def removes_packet_pages_elsewhere(lab: Lab) -> None:
    """On a hugetlbfs, usually, where a file that stays would hold huge pages."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        lab.simulator("null")
        daemon = lab.daemon("--rx", "pages", "--pages-path", f"{elsewhere}/pages")
        expect_equal(os.listdir(elsewhere), ["pages"], "files while it runs")
        expect_equal(daemon.terminate(), 0, "exit code")
        expect_equal(os.listdir(elsewhere), [], "files that it left")


def main() -> None:
    suite = harness.Suite()
    root = os.geteuid() == 0
    if root:
        suite.check("root is refused in one line that says what to do", refuses_root)
        suite.check("as root it keeps no capability, in any set, in any thread", root_keeps_no_capability)
    else:
        print("SKIP: what becomes of root's rights: needs root")
    suite.check("it closes files that it was not given to use", closes_what_it_inherits)
    suite.check("nothing of its environment is left", empties_its_environment)
    suite.check("it leaves no core file and opens few files", leaves_no_core)
    suite.check("at a clean end it removes the packet pages, wherever they are", removes_packet_pages_elsewhere)
    if root and harness.readable_for_others(BUILD / "vitrine"):
        suite.check("a user without any right serves a VM", serves_a_vm_without_any_right)
        suite.check("a front-end of vitrine's own user is refused, and served with --allow-same-uid",
                    refuses_a_front_end_of_its_own_user)
    else:
        print("SKIP: a user without any right: needs root, and a build directory that others may read")
    if root:
        for thread in ("control", "poll"):
            suite.check(f"a system call on no list kills it, and the log names the call of the {thread} thread",
                        kills_at_a_forbidden_call, thread)
            suite.check(f"--seccomp=errno refuses such a call of the {thread} thread, names it once, and goes on",
                        refuses_a_forbidden_call, thread)
        suite.check("calls that it needs are refused with arguments that it does not need", refuses_by_argument)
        suite.check("it opens no file but those that a lost VF needs", opens_no_other_file)
        suite.check("--seccomp=log lets such a call pass the filters", lets_a_forbidden_call_pass, "log", True)
        suite.check("--seccomp=off has no filters", lets_a_forbidden_call_pass, "off", False)
    else:
        print("SKIP: forced system calls: needs root")
    suite.finish()


if __name__ == "__main__":
    main()
