#!/usr/bin/python3
"""What vitrine keeps of what it was started with: no file, no variable, no right, and no way to look into it."""

import os
import pathlib

import harness
from harness import BUILD, NOBODY, Daemon, Lab, Process, expect, expect_equal

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
    expect_equal(os.read(read_end, 1), b"", "bytes from a pipe that nobody else has")
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
    if root and harness.readable_for_others(BUILD / "vitrine"):
        suite.check("a user without any right serves a VM", serves_a_vm_without_any_right)
    else:
        print("SKIP: a user without any right: needs root, and a build directory that others may read")
    suite.finish()


if __name__ == "__main__":
    main()
