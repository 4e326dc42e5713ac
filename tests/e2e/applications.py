#!/usr/bin/python3
"""The guest library: a program that links what is installed, applications that read frames in place beside the port's
owner, and `vitrine-guest perf`, which measures that."""

import array
import collections.abc
import json
import mmap
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys

import harness
import ledger
from harness import BUILD, Lab, expect, expect_equal, wait_until

WAYS = ("copy", "zero copy, wait", "zero copy, polling")
SIZES_KIB = (4, 16, 64, 128, 256, 512)
ROW_BYTES = (64 if harness.LONG else 2) << 20
RELEASED_AT, SLEEPING_AT, GATHER_AT = 128, 132, 136  # docs/zero_copy.md, 2


def start(lab: Lab, wire: str = "gen:size=1518"):
    simulator = lab.simulator(wire)
    return simulator, lab.daemon("--rx", "pages", "--pages-path", str(lab.pages))


def guest_command(mode: str, *options: str) -> list:
    return [BUILD / "vitrine-guest", mode, *options]


def device(lab: Lab) -> tuple[str, ...]:
    return "--socket", str(lab.directory / "vhost.sock"), "--pages", str(lab.pages)


def serve(lab: Lab) -> harness.Process:
    owner = lab.process("serve", guest_command("serve", *device(lab), "--door", str(lab.directory / "door")))
    owner.wait_until_ready((lab.directory / "door").exists)
    return owner


def at_door(lab: Lab, *options: str, before: tuple = ()) -> harness.Process:
    command = [*before, *guest_command("perf", "--door", str(lab.directory / "door"), "--json", *options)]
    return lab.process("application", command)


def wait_until_inside(application: harness.Process) -> None:
    maps = pathlib.Path(f"/proc/{application.child.pid}/maps")
    wait_until(lambda: not application.running() or "header-page" in maps.read_text(), "the application to be let in")
    expect(application.running(), f"the application ended early: {application.errors}")


def served(owner: harness.Process) -> dict:
    owner.send(signal.SIGTERM)
    expect_equal(owner.finish(), 0, f"the owner's end, {owner.errors}")
    return json.loads(owner.output_file.read_text())


def expect_all_back(lab: Lab, daemon: harness.Daemon) -> None:
    """Pages that an ended driver held are its own until another driver starts: none is lost for good."""
    daemon.expect_clean_audit()
    lab.guest("rx", "--count", "1").report()
    wait_until(lambda: daemon.ask("audit")[1]["packets"]["guest"] == 0, "all pages to be back")
    daemon.expect_clean_audit()


def expect_table(rows: list[dict], row_bytes: int, frame_bytes: int) -> None:
    expect_equal([(row["way"], row["gather_bytes"]) for row in rows],
                 [(way, size << 10) for way in WAYS for size in SIZES_KIB], "rows")
    for row in rows:
        expect(row["bytes"] >= row_bytes and row["bytes"] == row["frames"] * frame_bytes, f"bytes of {row}")
        expect(0 < row["wake_ups"] <= row["frames"], f"wake-ups of {row}")
        # One that came early, because nothing more came for a second, may be among them.
        expect(row["bytes"] >= (row["wake_ups"] - 1) * row["gather_bytes"], f"bytes for each wake-up of {row}")
        most = max(row["gather_bytes"], frame_bytes) * 2 + frame_bytes
        expect(row["bytes"] <= row["wake_ups"] * most, f"bytes for each wake-up of {row}")
        expect(0 < row["receive_ns"] < row["loop_ns"], f"times of {row}")
        expect_equal(row["ns_per_wake_up"], row["receive_ns"] // row["wake_ups"], "ns per wake-up")
        expect_equal(row["bad"], 0, f"bad frames of {row}")


def links_the_library(lab: Lab) -> None:
    prefix = lab.directory / "prefix"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)
    found = [os.fspath(path.parent) for path in prefix.rglob("vitrine-port.pc")]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "vitrine-port"], check=True, capture_output=True,
                           text=True, env={**os.environ, "PKG_CONFIG_PATH": ":".join(found)}).stdout.split()
    program = lab.directory / "count_frames"
    subprocess.run(["c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-o", program,
                    harness.ROOT / "docs/examples/count_frames.cpp", *flags], check=True)
    simulator, daemon = start(lab, "gen:size=512,rate=20000")
    wanted = 5000
    counter = lab.process("count_frames", [program, *device(lab)[1::2], str(wanted)])
    expect_equal(counter.finish(), 0, f"the example's end, {counter.errors}")
    kind, count = counter.output_file.read_text().split()
    expect(kind == "0800" and int(count) >= wanted, f"frames by type: {kind} {count}")
    status = daemon.status()
    expect(ledger.total(status, "receive", "lent") >= wanted, "the frames were not lent")
    expect_equal(ledger.total(status, "receive", "copied"), 0, "frames copied")
    wait_until(lambda: simulator.status()["tx"]["frames"] == 1, "the frame that it sends")


def measures(lab: Lab) -> None:
    daemon = start(lab)[1]
    command = guest_command("perf", *device(lab), "--json", "--bytes", str(ROW_BYTES))
    perf = lab.process("perf", command, env={**os.environ, "TMPDIR": os.fspath(lab.directory)})
    expect_equal(perf.finish(), 0, f"the end of perf, {perf.errors}")
    expect_table(json.loads(perf.output_file.read_text())["rows"], ROW_BYTES, 1514)
    expect_equal(list(lab.directory.glob("vitrine-perf-*")), [], "what perf left behind")
    expect_equal(ledger.total(daemon.status(), "receive", "copied"), 0, "frames copied")
    expect_all_back(lab, daemon)


def prints_its_table(lab: Lab) -> None:
    start(lab, "gen:size=64")
    perf = lab.process("perf", guest_command("perf", *device(lab), "--bytes", "64k"))
    expect_equal(perf.finish(), 0, f"the end of perf, {perf.errors}")
    table = perf.output_file.read_text().splitlines()
    expect_equal(len(table), 2 + len(WAYS) * len(SIZES_KIB), "lines of the table")
    for way in WAYS:
        expect_equal(sum(line.strip().startswith(way) for line in table), len(SIZES_KIB), f"rows of {way}")


def serves_one_after_another(lab: Lab) -> None:
    daemon = start(lab)[1]
    owner = serve(lab)
    before: tuple = ()
    if os.geteuid() == 0 and harness.readable_for_others(BUILD):  # the application may be somebody else
        (lab.directory).chmod(0o755)
        (lab.directory / "door").chmod(0o666)
        before = ("setpriv", "--reuid", str(harness.NOBODY), "--regid", str(harness.NOBODY), "--clear-groups", "--")
    killed = at_door(lab, before=before)
    wait_until_inside(killed)
    killed.kill()
    reader = at_door(lab, "--bytes", str(1 << 20), before=before)
    expect_equal(reader.finish(), 0, f"the application's end, {reader.errors}")
    expect_table(json.loads(reader.output_file.read_text())["rows"], 1 << 20, 1514)
    report = served(owner)
    expect_equal((report["applications"], report["expelled"], report["violations"]), (2, 0, 0),
                 "applications, expelled, broken rules")
    expect(report["shown"] <= report["received"]["frames"], f"more shown than received: {report}")
    expect_all_back(lab, daemon)


class HostileApplication:
    """One that speaks the protocol of the door by hand."""

    def __init__(self, door: pathlib.Path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(harness.PATIENCE_SECONDS)
        self.socket.connect(os.fspath(door))
        message, control, _, _ = self.socket.recvmsg(8, socket.CMSG_SPACE(3 * 4))
        expect_equal(struct.unpack("<II", message), (0x41585256, 1), "the welcome")
        self.files = array.array("i", control[0][2])
        self.page = mmap.mmap(self.files[0], 0)

    def store(self, place: int, value: int) -> None:
        self.page[place:place + 4] = struct.pack("<I", value)

    def count(self) -> int:
        return struct.unpack_from("<I", self.page, 68)[0]

    def is_expelled(self) -> None:
        try:
            expect_equal(self.socket.recv(1), b"", "what the owner says")
        except ConnectionResetError:  # it did not read what we said
            pass

    def close(self) -> None:
        self.page.close()
        for file in self.files:
            os.close(file)
        self.socket.close()


def expect_refused(attempt: str, function: collections.abc.Callable) -> None:
    try:
        function()
    except OSError:
        return
    raise harness.Failure(f"an application could {attempt}")


def expels_who_breaks_rules(lab: Lab) -> None:
    daemon = start(lab, "gen:size=64,rate=20000")[1]
    owner = serve(lab)
    for lie in (1 << 20, 0xffffffff, 0x80000000):
        application = HostileApplication(lab.directory / "door")
        wait_until(lambda: application.count() > 10, "frames")
        application.store(SLEEPING_AT, 0xffffffff)
        application.store(RELEASED_AT, lie)
        application.is_expelled()
        application.close()
    talker = HostileApplication(lab.directory / "door")
    talker.socket.sendall(b"hello")
    talker.is_expelled()
    talker.close()
    hoarder = HostileApplication(lab.directory / "door")
    hoarder.store(GATHER_AT, 0xffffffff)
    wait_until(lambda: hoarder.count() > 500, "frames, as pages run out")
    page, region, wake = hoarder.files
    expect_refused("map the region for writing", lambda: mmap.mmap(region, 0))
    expect_refused("cut the header page off", lambda: os.ftruncate(page, 0))
    expect_refused("cut the region off", lambda: os.ftruncate(region, 0))
    expect_refused("fill the eventfd", lambda: os.write(wake, struct.pack("<Q", 0xfffffffffffffffe)))
    hoarder.close()
    reader = at_door(lab, "--bytes", "64k")
    expect_equal(reader.finish(), 0, f"an application after these, {reader.errors}")
    report = served(owner)
    expect_equal((report["applications"], report["expelled"]), (6, 3), "applications, and those that lied")
    expect_all_back(lab, daemon)


def tells_that_the_owner_is_gone(lab: Lab) -> None:
    daemon = start(lab)[1]
    for way in (signal.SIGKILL, signal.SIGTERM):
        owner = serve(lab)
        reader = at_door(lab, "--bytes", str(1 << 40))
        wait_until_inside(reader)
        owner.send(way)
        expect_equal(reader.finish(), 1, "the application's end")
        expect("the port's owner is gone" in reader.errors, f"the application says {reader.errors}")
        owner.finish()
        (lab.directory / "door").unlink(missing_ok=True)
    owner = serve(lab)
    daemon.terminate()
    expect_equal(owner.finish(), 1, "the owner's end when the device goes")
    expect("the device is gone" in owner.errors, f"the owner says {owner.errors}")


def main() -> None:
    suite = harness.Suite()
    if shutil.which("pkg-config") and shutil.which("c++"):
        suite.check("a program that links the installed library", links_the_library)
    suite.check("perf: three ways, six sizes, every payload checked", measures)
    suite.check("perf prints its table", prints_its_table)
    suite.check("applications of another user one after another, one of them killed", serves_one_after_another)
    suite.check("applications that lie, talk or hoard", expels_who_breaks_rules)
    suite.check("an application learns that the owner is gone", tells_that_the_owner_is_gone)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
