#!/usr/bin/python3
"""vitrine as a service: what it tells the service manager, for which this test stands in, and what gets installed."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import harness
from harness import BUILD, Daemon, Lab, expect, expect_equal, wait_until

sys.path.append(os.fspath(harness.ROOT / "tests/support"))
import forced_call  # noqa: E402  # beside the tests of other languages

SMALL = ("--memory", "small")


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, name: str | pathlib.Path):
        self.name = os.fspath(name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name.replace("@", "\0", 1))
        self.socket.setblocking(False)
        self.notes: list[str] = []

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "NOTIFY_SOCKET": self.name, **more}

    def hear(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.notes += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.notes

    def wait_for(self, note: str) -> None:
        wait_until(lambda: note in self.hear(), f"{note!r} among {self.notes}")

    def count(self, note: str) -> int:
        return self.hear().count(note)


def tells_its_state(lab: Lab, name: str | None = None) -> None:
    manager = Manager(name or lab.directory / "notify")
    simulator = lab.simulator("null")
    daemon = lab.daemon(*SMALL, env=manager.environment())
    manager.wait_for("READY=1")
    expect(harness.listening(daemon.socket), "READY came before the front-end's socket")
    expect_equal(manager.count("READY=1"), 1, "READY")
    manager.wait_for("STATUS=default: no front-end, link 10G")
    lab.guest("rx", "--idle-seconds", "600", "--seconds", "600")
    manager.wait_for("STATUS=default: front-end connected, 2 rings, link 10G")
    expect_equal(daemon.status()["summary"], "default: front-end connected, 2 rings, link 10G", "summary in the status")
    simulator.kill()
    manager.wait_for("STATUS=default: front-end connected, 2 rings, VF absent: trying again")
    expect_equal(manager.count("WATCHDOG=1"), 0, "signs of life that nobody asked for")
    daemon.terminate()
    manager.wait_for("STOPPING=1")


def lives_while_both_threads_move(lab: Lab) -> None:
    """The link is down, or the control thread would look at the poll thread's rings and find it stuck itself."""
    manager = Manager(lab.directory / "notify")
    lab.simulator("null").ask("link down")
    daemon = lab.daemon(*SMALL, env=manager.environment(WATCHDOG_USEC="20000000"))
    wait_until(lambda: manager.count("WATCHDOG=1") > 1, "signs of life")
    tasks = pathlib.Path("/proc") / str(daemon.child.pid) / "task"
    poll_thread = max(int(path.name) for path in tasks.iterdir())
    with forced_call.stopped(poll_thread):
        time.sleep(2)  # what is under way
        before = manager.count("WATCHDOG=1")
        time.sleep(4)
        expect_equal(manager.count("WATCHDOG=1"), before, "signs of life while the poll thread stands still")
        expect(daemon.running(), "vitrine ended")
    before = manager.count("WATCHDOG=1")
    wait_until(lambda: manager.count("WATCHDOG=1") > before, "signs of life")


def does_not_answer_for_another_process(lab: Lab) -> None:
    manager = Manager(lab.directory / "notify")
    lab.simulator("null")
    lab.daemon(*SMALL, env=manager.environment(WATCHDOG_USEC="20000000", WATCHDOG_PID="1"))
    manager.wait_for("READY=1")
    time.sleep(3)
    expect_equal(manager.count("WATCHDOG=1"), 0, "signs of life for process 1")


def prints_its_capabilities(_: Lab) -> None:
    said = subprocess.run([BUILD / "vitrine", "--print-capabilities"], capture_output=True, text=True, check=True)
    expect_equal(json.loads(said.stdout), {"type": "net"}, "capabilities")


def installs_a_whole(lab: Lab) -> None:
    """Each file that an installed one names is there; no place is left open; nothing names the build."""
    subprocess.run(["cmake", "--install", BUILD, "--prefix", "/opt/v"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "DESTDIR": os.fspath(lab.directory)})
    root = lab.directory / "opt/v"
    unit = (root / "lib/systemd/system/vitrine@.service").read_text()
    description = json.loads((root / "share/qemu/vhost-user/50-vitrine.json").read_text())
    expect_equal(description["type"], "net", "type of back-end")
    named = {description["binary"], *re.findall(r"(/opt/v/(?:bin|libexec)\S+)", unit)}
    expect(len(named) >= 2, f"programs that are named: {named}")
    for program in named:
        expect(os.access(lab.directory / program[1:], os.X_OK), f"{program} is not installed")
    for file in (unit, json.dumps(description)):
        expect(re.search(r"@\w+@", file) is None, f"a place is left open in {file}")
        expect(os.fspath(harness.ROOT) not in file, f"the source tree is named in {file}")
    for name in ("bin/vitrinectl", "lib/sysusers.d/vitrine.conf", "lib/tmpfiles.d/vitrine.conf"):
        expect((root / name).is_file(), f"{name} is not installed")


def main() -> None:
    suite = harness.Suite()
    suite.check("it tells the service manager when it is ready, how things are, and that it stops", tells_its_state)
    suite.check("the service manager's socket may be an abstract one", tells_its_state, f"@vitrine-test-{os.getpid()}")
    if os.geteuid() == 0:
        suite.check("it shows signs of life only while both of its threads move", lives_while_both_threads_move)
    else:
        print("SKIP: a thread that stands still: needs root")
    suite.check("a watchdog of another process is none of its business", does_not_answer_for_another_process)
    suite.check("it says what kind of back-end it is", prints_its_capabilities)
    if (BUILD / "cmake_install.cmake").exists():
        suite.check("an installation is whole", installs_a_whole)
    else:
        print(f"SKIP: an installation: {BUILD} is no build directory")
    suite.finish()


if __name__ == "__main__":
    main()
