#!/usr/bin/python3
"""Frames reach a guest in the NIC's own pages: none copied, none read, none bad, every page back in its place; also after
the daemon was killed in the middle, and beside a guest that knows nothing of pages."""

import os
import pathlib
import signal
import struct
import subprocess
import sys

import harness
import ledger
from harness import BUILD, Daemon, Lab, Process, expect, expect_equal, wait_until

sys.path.append(os.fspath(harness.ROOT / "tests/support"))
import forced_call  # noqa: E402  # beside the tests of other languages

FRAMES = 1_000_000 if harness.LONG else 30_000
MANY_FRAMES = 10_000_000 if harness.LONG else 100_000
OF_ALL_SIZES = "64-9018"
HELD_LIMIT = 1024
MPROTECT, PROT_NONE = 10, 0


def start(lab: Lab, wire: str, size: int | str, *options: str):
    jumbo = size == OF_ALL_SIZES or size > 1518
    simulator = lab.simulator(wire, *(["--pf-mtu", "9000"] if jumbo else []))
    simulator.ask("link down")
    return simulator, daemon_with_pages(lab, *(["--mtu", "9000"] if jumbo else []), *options)


def daemon_with_pages(lab: Lab, *options: str):
    return lab.daemon("--rx", "pages", "--pages-path", str(lab.pages), *options)


def in_place(lab: Lab) -> tuple:
    return ("--pages", str(lab.pages))


def mappings(process: Process) -> list[dict]:
    """Of files that it shares with others."""
    found = []
    for line in pathlib.Path(f"/proc/{process.child.pid}/maps").read_text().splitlines():
        span, rights, offset, device, inode, *path = line.split(maxsplit=5)
        first, last = (int(address, 16) for address in span.split("-"))
        if rights.endswith("s") and inode != "0":
            found.append({"first": first, "last": last, "rights": rights, "offset": int(offset, 16),
                          "file": (device, inode), "path": path[0] if path else ""})
    return found


def packet_pages(lab: Lab, daemon: Daemon) -> list[dict]:
    """The daemon's own mapping of what lies behind info page and header table."""
    path = lab.pages
    with open(path, "rb") as region:
        begin, = struct.unpack_from("<Q", region.read(4096), 48)
    return [{**place, "first": max(place["first"], place["first"] + begin - place["offset"])}
            for place in mappings(daemon)
            if place["path"] == str(path) and place["offset"] + place["last"] - place["first"] > begin]


def hide_packet_pages(lab: Lab, daemon: Daemon) -> None:
    """From the daemon itself: whatever it reads or writes there ends it."""
    for place in packet_pages(lab, daemon):
        length = place["last"] - place["first"]
        expect_equal(forced_call.force_call(daemon.child.pid, MPROTECT, place["first"], length, PROT_NONE), 0, "mprotect")
    hidden = packet_pages(lab, daemon)
    expect(hidden and all(place["rights"].startswith("---") for place in hidden), f"the pages are not hidden: {hidden}")


def receives(lab: Lab, size: int | str, rate: int = 0, guest: tuple = (), count: int = FRAMES,
             hidden: bool = False) -> None:
    simulator, daemon = start(lab, f"gen:size={size},rate={rate},count={count}", size)
    if hidden:
        hide_packet_pages(lab, daemon)
    running = ledger.receiving_guest(lab, "check", *in_place(lab), *guest)
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    lost = ledger.expect_received(simulator, daemon, [report], count)
    expect(report["received"]["frames"] > 0, f"nothing arrived: {lost}")
    expect(report["received"]["lost"] <= sum(lost.values()), f"{report['received']['lost']} lost, {lost} counted")
    status = daemon.status()
    expect_equal(ledger.total(status, "receive", "copied"), 0, "frames copied")
    expect_equal(ledger.total(status, "receive", "lent"), report["received"]["frames"], "frames lent")
    expect_equal(ledger.total(status, "receive_ring", "bad_returns"), 0, "pages returned that were not the guest's")
    # An idle device takes back what the guest returned.
    wait_until(lambda: daemon.ask("audit")[1]["packets"]["guest"] == 0, "all pages to be back")


def dies_of_hidden_pages_when_it_copies(lab: Lab) -> None:
    """So the check above can fail."""
    simulator, daemon = start(lab, "gen:size=64,count=1", 64)
    hide_packet_pages(lab, daemon)
    ledger.receiving_guest(lab, "check")
    ledger.open_wire(simulator, daemon)
    expect_equal(daemon.finish(), -signal.SIGSEGV, "the end of a vitrine that copies from pages that it cannot read")


def echoes(lab: Lab) -> None:
    simulator, daemon = start(lab, f"gen:size=512,rate=20000,count={FRAMES}", 512)
    running = ledger.receiving_guest(lab, "echo", *in_place(lab))
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    ledger.expect_received(simulator, daemon, [report], FRAMES)
    ledger.expect_sent(simulator, daemon, [report])
    expect_equal(simulator.status()["tx_checked"]["bad"], 0, "bad frames on the wire")


def survives_kills(lab: Lab) -> None:
    simulator, daemon = start(lab, "gen:size=64,rate=50000", 64)
    simulator.ask("link up")
    for _ in range(20 if harness.LONG else 4):
        guest = ledger.receiving_guest(lab, "check", *in_place(lab))
        wait_until(lambda: ledger.total(daemon.status(), "receive", "lent") > 1000, "frames in pages")
        daemon.kill()
        guest.finish()  # it sees the back-end go
        daemon = daemon_with_pages(lab)
        daemon.expect_clean_audit()
    guest = ledger.receiving_guest(lab, "check", *in_place(lab))
    wait_until(lambda: ledger.total(daemon.status(), "receive", "lent") > 1000, "frames in pages")
    daemon.expect_clean_audit()
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    expect_equal(daemon.terminate(), 0, "the daemon's end")
    expect(not lab.pages.exists(), "a clean end leaves the pages behind")


def serves_others_by_copy(lab: Lab) -> None:
    simulator, daemon = start(lab, f"gen:size=64,rate=20000,count={FRAMES}", 64)
    first = ledger.receiving_guest(lab, "check", *in_place(lab))
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: ledger.total(daemon.status(), "receive", "lent") > 100, "frames in pages")
    first.stop()
    second = ledger.receiving_guest(lab, "check")
    wait_until(lambda: ledger.total(daemon.status(), "receive", "copied") > 100, "copied frames")
    expect_equal(daemon.status()["pairs"][0]["receive_ring"]["runs_as"], "copy", "what its ring became")
    report = ledger.finish(simulator, daemon, second)
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    expect_equal(daemon.ask("audit")[1]["packets"]["guest"], 0, "pages with a guest that knows none")
    daemon.expect_clean_audit()


def a_hoarder_starves_alone(lab: Lab) -> None:
    """One guest, two queues: of one it never returns a page."""
    simulator = lab.simulator("gen:size=64,rate=1000,flows=64", "--queues", "2", "--rss-udp")
    simulator.ask("link down")
    daemon = daemon_with_pages(lab, "--queues", "2")
    hoarder = ledger.receiving_guest(lab, "check", *in_place(lab), "--queues", "2", "--hoard", "1")
    ledger.open_wire(simulator, daemon)

    def pair(number: int) -> dict:
        return daemon.status()["pairs"][number]

    wait_until(lambda: pair(1)["receive"]["drop_held"] > 0, "the hoarder to run dry")
    before = pair(0)["receive"]["lent"]
    wait_until(lambda: pair(0)["receive"]["lent"] > before + HELD_LIMIT, "frames by the other queue")
    status = daemon.status()
    good, starved = status["pairs"]
    expect_equal({name: good["receive"][name] for name in good["receive"] if name.startswith("drop_")
                  and good["receive"][name] != 0}, {}, "drops of the other queue")
    expect_equal([one["receive_ring"]["runs_as"] for one in status["pairs"]], ["pages", "pages"], "the rings")
    expect_equal((starved["receive_ring"]["held"], starved["receive_ring"]["rx_held_max"]), (HELD_LIMIT, HELD_LIMIT),
                 "pages that the hoarder has")
    expect(starved["receive_ring"]["rx_held_tries"] > 0, "no try was counted")
    expect_equal(starved["receive"]["lent"], HELD_LIMIT, "frames of the hoarder")
    expect_equal(status["vf"]["rx_ring"]["pool_empty"], 0, "times that the NIC found no page")
    expect_equal(simulator.status()["drops"].get("no_descriptor", 0), 0, "frames that found no page in the NIC")
    daemon.expect_clean_audit()
    report = hoarder.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")

    ledger.receiving_guest(lab, "check", *in_place(lab), "--queues", "2")
    wait_until(lambda: pair(1)["receive"]["lent"] > 2 * HELD_LIMIT, "frames for a guest that returns pages")
    expect(pair(1)["receive_ring"]["rx_reclaimed"] >= HELD_LIMIT, "the hoarder's pages were not taken back")
    daemon.expect_clean_audit()


def maps_guest_memory(lab: Lab, guest_dma: str) -> None:
    """Of guest memory the NIC sees nothing, unless the operator says so: pages for receive, and copied transmit."""
    simulator, daemon = start(lab, f"gen:size=512,rate=5000,count={FRAMES // 10}", 512, "--guest-dma", guest_dma)
    echo = ledger.receiving_guest(lab, "echo", *in_place(lab))
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: simulator.status()["tx_checked"]["good"] > FRAMES // 20, "echoes")
    ram = {place["file"] for place in mappings(echo) if place["rights"].startswith("rw")}
    pages = {place["file"] for place in mappings(echo)} - ram
    expect_equal((len(ram), len(pages)), (1, 1), "files that the guest has mapped: its memory, and the pages")
    seen_by_nic = {place["file"] for place in mappings(simulator)}
    expect(pages <= seen_by_nic, "the NIC does not see the pages")
    if guest_dma == "on":  # so the check can fail
        expect(ram <= seen_by_nic, "the NIC does not see the guest's memory with --guest-dma=on")
    else:
        expect(not ram & seen_by_nic, "the NIC sees the guest's memory")
    echo.stop()


def cleans_up(lab: Lab) -> None:
    lab.simulator("null")
    daemon = daemon_with_pages(lab)
    command = [BUILD / "vitrine", "clean", "default", "--run-dir", daemon.run_directory, "--socket-path", daemon.socket,
               "--pages-path", lab.pages]

    def clean() -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, timeout=harness.PATIENCE_SECONDS, text=True, check=False)
        return done.returncode, done.stderr

    code, said = clean()
    expect_equal(code, 1, "exit code of a clean-up while it runs")
    expect("default runs" in said and "stop it first" in said, f"it said {said!r}")
    daemon.expect_clean_audit()
    daemon.kill()
    left = [lab.pages, daemon.socket, daemon.run_directory / "default" / "ledger",
            daemon.run_directory / "default" / "control.sock"]
    expect(all(path.exists() for path in left), "a kill leaves nothing to clean up")
    expect_equal(clean(), (0, ""), "a clean-up")
    expect_equal([path for path in [*left, daemon.run_directory / "default"] if path.exists()], [], "left behind")
    expect_equal(clean(), (0, ""), "another one")


def main() -> None:
    suite = harness.Suite()
    for size in (64, 512, 1518, 9018):
        suite.check(f"{size} bytes in pages, as fast as it goes", receives, size)
    suite.check("64 bytes in pages, with pauses to sleep in", receives, 64, rate=5000)
    suite.check("rings of 2 entries", receives, 64, rate=20000, guest=("--queue-size", "2"))
    suite.check("without event index", receives, 64, rate=20000, guest=("--event-index", "off"))
    suite.check("echo from pages", echoes)
    if os.geteuid() == 0:
        suite.check(f"{MANY_FRAMES} frames of 60 to 9014 bytes in pages that vitrine itself cannot read", receives,
                    OF_ALL_SIZES, count=MANY_FRAMES, hidden=True)
        suite.check("a vitrine that copies from pages that it cannot read dies", dies_of_hidden_pages_when_it_copies)
    else:
        print("SKIP: needs root, to hide the pages from vitrine by ptrace", flush=True)
    suite.check("a guest that returns nothing of one queue starves that queue alone", a_hoarder_starves_alone)
    for guest_dma in ("off", "on"):
        suite.check(f"what the NIC sees of guest memory with --guest-dma={guest_dma}", maps_guest_memory, guest_dma)
    suite.check("vitrine clean removes what a killed one left, and nothing of one that runs", cleans_up)
    suite.check("killed in the middle, with pages in the guest's hands", survives_kills)
    suite.check("a guest without VRX after one with it", serves_others_by_copy)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
