#!/usr/bin/python3
"""Frames per second into one front-end, from DPDK's vhost and from vitrine, side by side in one run.

The front-end is the same for both: dpdk-testpmd, virtio-user, rxonly, on its own core. Its port counter is what is
measured. Into it send, in turn,
  A  dpdk-testpmd: net_null -> io forward -> net_vhost;
  B  null_vf: vitrine's receive path on a NIC that is a loop over descriptors, itself inside the poll thread.
Both copy every frame once, from a buffer of theirs into one of the guest's. A frame of 64 bytes on the wire is 60
bytes here, one of 1518 is 1514: the CRC stays outside.

Exit codes: 0 measured, whatever the ratio; 1 a broken set-up (DPDK itself below 5 million frames a second at 64
bytes); 77 cannot run here. No speed is judged.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CRC_BYTES = 4
BROKEN_BASELINE_FPS = 5e6
LEAST_CPU_SHARE = 0.8  # with less, a low figure says nothing about the set-up
MEMORY_MIB = 128  # of each DPDK process
HUGE_PAGE_MIB = 2
START_LIMIT_S = 20
NR_HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")

EAL = f"--in-memory --no-telemetry --no-pci -m {MEMORY_MIB} -l {{cores}} --main-lcore {{main}} --file-prefix {{name}}"
RING = "queue_size=1024,mrg_rxbuf=1,in_order=1"
TESTPMD = "--no-mlockall --total-num-mbufs=16384"


class Broken(Exception):
    """The measurement makes no sense, and why."""


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def free_huge_pages():
    return int(re.search(r"HugePages_Free:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])


@contextlib.contextmanager
def huge_pages(needed):
    """Sees to it that `needed` pages are free; gives back afterwards what was added."""
    missing = needed - free_huge_pages()
    if missing > 0:
        before = int(NR_HUGEPAGES.read_text())
        try:
            NR_HUGEPAGES.write_text(str(before + missing))
        except PermissionError:
            skip(f"{missing} more huge pages are needed: raise {NR_HUGEPAGES}, as root")
        if free_huge_pages() < needed:
            NR_HUGEPAGES.write_text(str(before))
            skip(f"{needed} huge pages of {HUGE_PAGE_MIB} MiB are needed, the kernel has {free_huge_pages()}")
    try:
        yield
    finally:
        if missing > 0:  # relative: another one may have raised it meanwhile
            NR_HUGEPAGES.write_text(str(int(NR_HUGEPAGES.read_text()) - missing))


def busiest_thread(process):
    """CPU seconds of the thread that has used most: the one that polls."""
    ticks = []
    for stat in pathlib.Path(f"/proc/{process.pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        ticks.append(int(fields[11]) + int(fields[12]))
    return max(ticks) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command, log):
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=START_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()


def wait_for(condition, what, *processes):
    deadline = time.monotonic() + START_LIMIT_S
    while not condition():
        for process, log in processes:
            if process.poll() is not None:
                raise Broken(f"{what}: the process ended\n{log.read_text()}")
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not within {START_LIMIT_S} s\n" + "\n".join(log.read_text() for _, log in processes))
        time.sleep(0.05)


class FrontEnd:
    """The receiving testpmd, through its prompt."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def say(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def frames_per_second(self):
        """Its own port rate since it was asked last; None the first time."""
        pattern = re.compile(r"Rx-pps:\s+(\d+)")
        seen = len(pattern.findall(self.log.read_text()))
        self.say("show port stats 0")
        wait_for(lambda: len(pattern.findall(self.log.read_text())) > seen, "port statistics", (self.process, self.log))
        return int(pattern.findall(self.log.read_text())[-1])


class Bench:
    def __init__(self, arguments, directory):
        self.arguments = arguments
        self.directory = pathlib.Path(directory)
        self.socket = self.directory / "vhost.sock"
        both = f"{arguments.sender_core},{arguments.receiver_core}"
        # A testpmd's main thread does nothing while it runs: it sits on the core of the other one.
        sender = EAL.format(cores=both, main=arguments.receiver_core, name="vitrine-bench-a")
        receiver = EAL.format(cores=both, main=arguments.sender_core, name="vitrine-bench-f")
        self.commands = {
            "A": f"dpdk-testpmd {sender} --vdev net_null0,size={{bytes}},copy=0 "
                 f"--vdev net_vhost0,iface={self.socket},queues=1 -- --forward-mode=io --auto-start {TESTPMD}",
            "B": f"{arguments.null_vf.resolve()} --socket-path {self.socket} --frame-bytes {{bytes}} "
                 f"--core {arguments.sender_core}",
        }
        self.front_end = (f"stdbuf -oL dpdk-testpmd {receiver} --single-file-segments "
                          f"--vdev net_virtio_user0,path={self.socket},queues=1,{RING} -- -i --forward-mode=rxonly "
                          f"{TESTPMD}")

    def measure(self, side, frame_bytes):
        """One run: a sender, the front-end, an interval."""
        sender_log, receiver_log = self.directory / "sender.log", self.directory / "receiver.log"
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        with running(self.commands[side].format(bytes=frame_bytes), sender_log) as sender:
            wait_for(self.socket.exists, f"{side}: listen", (sender, sender_log))
            with running(self.front_end, receiver_log) as receiver:
                both = (sender, sender_log), (receiver, receiver_log)
                wait_for(lambda: "testpmd>" in receiver_log.read_text(), f"{side}: front-end", *both)
                front_end = FrontEnd(receiver, receiver_log)
                front_end.say("start")
                time.sleep(self.arguments.warm_up)
                front_end.frames_per_second()
                begin, busy = time.monotonic(), [busiest_thread(process) for process, _ in both]
                time.sleep(self.arguments.seconds)
                fps = front_end.frames_per_second()
                spent = time.monotonic() - begin
                shares = [(busiest_thread(process) - was) / spent for (process, _), was in zip(both, busy)]
        if fps == 0:
            raise Broken(f"{side}: nothing arrived\n{sender_log.read_text()}\n{receiver_log.read_text()}")
        result = {"side": side, "frame_bytes": frame_bytes, "fps": fps, "cpu_share": round(min(shares), 3)}
        if side == "B":
            result["null_vf"] = json.loads(sender_log.read_text().splitlines()[-1])
        return result


def compare(bench, wire_bytes, pairs):
    """A B A B ...; the ratio of each pair, so that a slow moment of the machine meets both sides of it."""
    runs = []
    for pair in range(pairs):
        for side in "AB":
            run = bench.measure(side, wire_bytes - CRC_BYTES)
            if side == "A" and wire_bytes == 64 and run["fps"] < BROKEN_BASELINE_FPS:
                baseline = f"DPDK alone moves {run['fps'] / 1e6:.2f} million frames/s at 64 bytes"
                if run["cpu_share"] < LEAST_CPU_SHARE:
                    skip(f"{baseline}, but the pollers had {run['cpu_share']:.0%} of their cores: the machine is busy")
                raise Broken(f"{baseline}, below {BROKEN_BASELINE_FPS / 1e6:.0f}: this set-up is broken")
            print(f"  {wire_bytes:5} bytes, pair {pair + 1} {side}: {run['fps'] / 1e6:7.3f} M frames/s "
                  f"{1e9 / run['fps']:7.1f} ns/frame, pollers had {run['cpu_share']:.0%} of their cores", flush=True)
            runs.append(run)
    fps = {side: [run["fps"] for run in runs if run["side"] == side] for side in "AB"}
    ratios = [b / a for a, b in zip(fps["A"], fps["B"])]
    summary = {"wire_bytes": wire_bytes, "runs": runs,
               "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
               "write_back_ns": statistics.median(run["null_vf"]["write_back_ns"] for run in runs if "null_vf" in run)}
    for side in "AB":
        median = statistics.median(fps[side])
        summary[side] = {"fps": median, "ns_per_frame": 1e9 / median}
    return summary


def cpu_model():
    return re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]


def parse_arguments():
    build = pathlib.Path(os.environ.get("VITRINE_BUILD", "build"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null-vf", type=pathlib.Path, default=build / "null_vf", help="default: %(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1518], help="bytes on the wire")
    parser.add_argument("--pairs", type=int, default=5, help="A B runs of each size")
    parser.add_argument("--seconds", type=float, default=3, help="the interval measured")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds before it")
    parser.add_argument("--short", action="store_true", help="two pairs of one second")
    parser.add_argument("--sender-core", type=int, default=0)
    parser.add_argument("--receiver-core", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured here")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.pairs, arguments.seconds, arguments.warm_up = 2, 1, 0.5
    return arguments


def main():
    arguments = parse_arguments()
    if shutil.which("dpdk-testpmd") is None:
        skip("dpdk-testpmd is missing (Debian: dpdk-dev librte-net-null23 librte-net-vhost23 librte-net-virtio23 "
             "librte-mempool-ring23)")
    if not {arguments.sender_core, arguments.receiver_core} <= os.sched_getaffinity(0):
        skip(f"cores {arguments.sender_core} and {arguments.receiver_core} are needed")
    if not arguments.null_vf.exists():
        sys.exit(f"{arguments.null_vf} is not built")
    with tempfile.TemporaryDirectory(prefix="vitrine-bench.") as directory:
        bench = Bench(arguments, directory)
        print(f"CPU: {cpu_model()}; sender on core {arguments.sender_core}, front-end on {arguments.receiver_core}")
        print(f"A:   {bench.commands['A']}\nB:   {bench.commands['B']}\ninto {bench.front_end}")
        pages = 2 * MEMORY_MIB // HUGE_PAGE_MIB + 16  # and null_vf's own
        with huge_pages(pages):
            results = [compare(bench, size, arguments.pairs) for size in arguments.sizes]
    print(f"\n{'bytes':>5} {'A M/s':>8} {'A ns':>7} {'B M/s':>8} {'B ns':>7} {'of it NIC ns':>12}   B/A (min..max)")
    for result in results:
        a, b, ratio = result["A"], result["B"], result["ratio"]
        print(f"{result['wire_bytes']:5} {a['fps'] / 1e6:8.3f} {a['ns_per_frame']:7.1f} {b['fps'] / 1e6:8.3f} "
              f"{b['ns_per_frame']:7.1f} {result['write_back_ns']:12.2f}   "
              f"{ratio['median']:.3f} ({ratio['min']:.3f}..{ratio['max']:.3f})")
    if not all(run["null_vf"]["huge_pages"] for result in results for run in result["runs"] if "null_vf" in run):
        print("B ran on small pages: no hugetlbfs is mounted, or it is full")
    if arguments.json:
        document = {"cpu": cpu_model(), "commands": bench.commands | {"front_end": bench.front_end},
                    "command_line": shlex.join(sys.argv), "sizes": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Broken as reason:
        sys.exit(f"FAIL: {reason}")
