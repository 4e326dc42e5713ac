#!/usr/bin/python3
"""The demo as a newcomer runs it: its table says that each size came through both ways with nothing bad, and that what
was lost has a reason; afterwards the machine is as it was before."""

import os
import pathlib
import re
import subprocess
import tempfile

import harness
from harness import expect, expect_equal

SIZES = (64, 1518, 9018)  # bytes on the wire
ROW = re.compile(r"^ *(\d+) to (guest|wire) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+ +[\d.]+ +(.*)$", re.MULTILINE)


def huge_pages() -> list[str]:
    return [line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("HugePages")]


def processes_in(session: int) -> list[str]:
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields.split()[3]) == session:
            found.append(name)
    return found


def machine() -> dict[str, object]:
    return {"mounts": pathlib.Path("/proc/self/mounts").read_text(),
            "network namespaces": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
            "interfaces": sorted(os.listdir("/sys/class/net")),
            "huge pages": huge_pages()}


def run_demo(scratch: str) -> str:
    """In a session of its own, so that whatever stays behind can be told from everybody else's."""
    command = [harness.ROOT / "tools/setup.sh", "demo"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": scratch, "VITRINE_BUILD": str(harness.BUILD)},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as demo:
        output, _ = demo.communicate(timeout=10 * harness.PATIENCE_SECONDS)
        expect_equal(demo.returncode, 0, f"exit code of the demo, which said\n{output}")
        expect_equal(processes_in(demo.pid), [], "processes that the demo left")
    return output


def the_demo_works_and_leaves_nothing(_: harness.Lab) -> None:
    before = machine()
    with tempfile.TemporaryDirectory() as scratch:
        output = run_demo(scratch)
        expect_equal(os.listdir(scratch), [], "files and sockets that the demo left")
    print(output, flush=True)
    # Huge pages of others on the machine come and go; ours would not come back by waiting.
    harness.wait_until(lambda: machine() == before, f"the machine to be as before: {before}, not {machine()}")
    rows = ROW.findall(output)
    expect_equal([(int(size), way) for size, way, *_ in rows], [(size, way) for size in SIZES for way in ("guest", "wire")],
                 "rows of the table")
    for size, way, sent, received, received_bytes, bad, lost in rows:
        losses = sum(int(count) for count in re.findall(r"[a-z_.]+ (\d+)", lost))
        expect_equal(int(sent), int(received) + losses, f"sent {size} to {way}, against received and lost by reason")
        expect_equal(int(received_bytes), int(received) * (int(size) - 4), f"bytes of {size} to {way}")
        expect(int(received) > 0 and bad == "0", f"{size} to {way}: {received} received, {bad} bad")


def main() -> None:
    suite = harness.Suite()
    suite.check("the demo moves each size both ways, and leaves the machine as it was", the_demo_works_and_leaves_nothing)
    suite.finish()


if __name__ == "__main__":
    main()
