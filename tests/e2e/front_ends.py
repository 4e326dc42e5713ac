#!/usr/bin/python3
"""The ways to a front-end other than a path to listen on, and the sleep of a process that has nothing to do."""

import json
import os
import pathlib
import resource
import signal
import socket
import struct
import time

import harness
import ledger
from harness import Daemon, Lab, expect, expect_equal, wait_until
from raw_front_end import SET_MEM_TABLE, message, send_with_descriptors

ENDLESS = "gen:size=64,rate=20000"
SILENT = "gen:count=0"
FRAMES = 2000


def expect_a_guest_served(lab: Lab, daemon: Daemon, *options: str) -> None:
    report = lab.guest("check", "--count", str(FRAMES), "--wait-seconds", "60", *options).report()
    expect(report["received"]["frames"] >= FRAMES, f"too few frames received: {report['received']}")
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")


def vitrine_connects(lab: Lab) -> None:
    """It is there first, tries until the front-end listens, and again when that one has gone."""
    lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon(front_end=("--connect", str(lab.directory / "vhost.sock")))
    for _ in range(2):
        expect_a_guest_served(lab, daemon, "--listen")
        wait_until(lambda: not daemon.status()["front_end"]["connected"], "vitrine to notice")
    daemon.expect_clean_audit()


def vitrine_inherits_a_listener(lab: Lab) -> None:
    lab.simulator(ENDLESS, "--doorbells", "poll")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(lab.directory / "vhost.sock"))
        listener.listen()
        number = listener.fileno()
        daemon = lab.daemon(front_end=("--fd", str(number)), pass_fds=(number,))
    for _ in range(2):
        expect_a_guest_served(lab, daemon)
    daemon.expect_clean_audit()


def vitrine_inherits_a_connection(lab: Lab) -> None:
    """Such a connection comes but once: its end is vitrine's."""
    lab.simulator(ENDLESS, "--doorbells", "poll")
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        number = theirs.fileno()
        daemon = lab.daemon(front_end=("--fd", str(number)), pass_fds=(number,))
        wait_until(lambda: daemon.status()["front_end"]["connected"], "the connection to be served")
    expect_equal(daemon.finish(), 0, "exit code")


def nobody_is_let_in_without_descriptors(lab: Lab) -> None:
    """They wait until there are some, at both sockets; each is tried once a second, not as fast as it goes."""
    lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon()
    control = daemon.run_directory / "default/control.sock"
    with socket.socket(socket.AF_UNIX) as inside, socket.socket(socket.AF_UNIX) as outside:
        inside.connect(os.fspath(control))
        answers = inside.makefile()

        def failures() -> list[int]:
            inside.sendall(b'{"id": 1, "method": "status"}\n')
            status = json.loads(answers.readline())["result"]
            return [status[part]["accept_failures"] for part in ("front_end", "control")]

        expect_equal(failures(), [0, 0], "failures before")
        used = {int(path.name) for path in (pathlib.Path("/proc") / str(daemon.child.pid) / "fd").iterdir()}
        limits = resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE)
        free = next(number for number in range(limits[0]) if number not in used)
        resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        begin = time.monotonic()
        outside.connect(os.fspath(control))
        with daemon.connect():
            wait_until(lambda: min(failures()) >= 2, "two failures at each socket")
            tried = max(failures())
            expect(tried <= time.monotonic() - begin + 2, f"{tried} tries, more than one a second")
        resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE, limits)
        expect_a_guest_served(lab, daemon)
        outside.sendall(b'{"id": 1, "method": "status"}\n')
        expect("result" in json.loads(outside.makefile().readline()), "who waited is not answered")
    expect_equal(daemon.errors.count("Too many open files"), 2, "lines of the log")
    daemon.expect_clean_audit()


def processor_seconds(daemon: Daemon) -> float:
    fields = (pathlib.Path("/proc") / str(daemon.child.pid) / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def vitrine_sleeps_and_wakes(lab: Lab) -> None:
    """That a frame from either side wakes it is for conservation.py: one frame, then silence."""
    lab.simulator(SILENT, "--doorbells", "poll")
    daemon = lab.daemon()
    lab.guest("rx", "--idle-seconds", "600", "--seconds", "600")
    wait_until(lambda: int(daemon.status()["front_end"]["features"], 16), "the front-end")
    before = daemon.status()["poller"]
    used = processor_seconds(daemon)
    time.sleep(3)
    after = daemon.status()["poller"]
    print(f"    3 s of silence: {after['sleeps'] - before['sleeps']} sleeps, "
          f"{100 * (processor_seconds(daemon) - used) / 3:.1f} % of a processor")
    expect(after["sleeps"] > before["sleeps"], "it never slept")
    expect_equal(after["busy_turns"], before["busy_turns"], "turns with work in silence")


def a_front_end_takes_guest_memory_away(lab: Lab) -> None:
    """In the middle of traffic, and stays connected: vitrine ends the connection and serves the next one."""
    if harness.free_huge_pages() < 64:
        print("SKIP: guest memory that can shrink: needs 64 free huge pages", flush=True)
        return
    lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon()
    guest = lab.guest("rx", "--seconds", "100000", "--memory", "huge")
    wait_until(lambda: ledger.total(daemon.status(), "receive_ring", "frames") > 1000, "traffic")
    guest.send(signal.SIGSTOP)
    files = pathlib.Path("/proc") / str(guest.child.pid) / "fd"
    memory = [file for file in files.iterdir() if "huge" in os.readlink(file)]
    expect(memory, f"no huge page file among {[os.readlink(file) for file in files.iterdir()]}")
    for file in memory:
        os.truncate(file, 0)
    wait_until(lambda: daemon.status()["front_end"]["session"]["memory_lost"] == 1, "vitrine to notice")
    expect(not daemon.status()["front_end"]["connected"], "the connection is still there")
    guest.kill()
    expect_a_guest_served(lab, daemon)
    daemon.expect_clean_audit()


def large_memory_is_mapped_in_slices(lab: Lab) -> None:
    """Each turn of the control thread pins 1 GiB at most. What was begun is undone when the front-end goes."""
    size_bytes = (5 << 29) + (1 << 21)
    lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon("--guest-dma", "on")
    file = os.memfd_create("guest memory")
    os.truncate(file, size_bytes)
    table = struct.pack("<IIQQQQ", 1, 0, 0, size_bytes, 1 << 40, 0)
    for _ in range(3):
        with daemon.connect() as connection:
            send_with_descriptors(connection, message(SET_MEM_TABLE, table), [file])
        wait_until(lambda: not daemon.status()["front_end"]["connected"], "vitrine to notice")
    with daemon.connect() as connection:
        send_with_descriptors(connection, message(SET_MEM_TABLE, table), [file])
        wait_until(lambda: daemon.status()["front_end"]["memory"] == {"bytes": size_bytes, "dma_bytes": size_bytes},
                   "all of it to be mapped")
    os.close(file)
    wait_until(lambda: daemon.status()["front_end"]["memory"] == {"bytes": 0, "dma_bytes": 0}, "it to be gone")
    expect_a_guest_served(lab, daemon)
    daemon.expect_clean_audit()


def main() -> None:
    suite = harness.Suite()
    suite.check("vitrine connects to a front-end that listens, again and again", vitrine_connects)
    suite.check("vitrine serves one front-end after the other on an inherited listener", vitrine_inherits_a_listener)
    suite.check("vitrine ends with an inherited connection", vitrine_inherits_a_connection)
    suite.check("a front-end takes guest memory away: its connection ends, and the next one is served",
                a_front_end_takes_guest_memory_away)
    suite.check("a guest of 2.5 GiB is mapped for the NIC slice by slice", large_memory_is_mapped_in_slices)
    if os.geteuid() == 0:
        suite.check("without descriptors nobody is let in, and nobody asked again and again",
                    nobody_is_let_in_without_descriptors)
    else:
        print("SKIP: want of descriptors: needs root, to see those that are in use", flush=True)
    suite.check("vitrine sleeps when there is nothing to do", vitrine_sleeps_and_wakes)
    suite.finish()


if __name__ == "__main__":
    main()
