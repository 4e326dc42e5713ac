#!/usr/bin/python3
"""Frames reach a guest in the NIC's own pages: none copied, none bad, every page back in its place; also after the
daemon was killed in the middle, and beside a guest that knows nothing of pages."""

import sys

import harness
import ledger
from harness import Lab, expect, expect_equal, wait_until

FRAMES = 1_000_000 if harness.LONG else 30_000


def start(lab: Lab, wire: str, size: int, *options: str):
    jumbo = size > 1518
    simulator = lab.simulator(wire, *(["--pf-mtu", "9000"] if jumbo else []))
    simulator.ask("link down")
    return simulator, daemon_with_pages(lab, *(["--mtu", "9000"] if jumbo else []), *options)


def daemon_with_pages(lab: Lab, *options: str):
    return lab.daemon("--rx", "pages", "--pages-path", str(lab.directory / "pages"), *options)


def in_place(lab: Lab) -> tuple:
    return ("--pages", str(lab.directory / "pages"))


def receives(lab: Lab, size: int, rate: int = 0, guest: tuple = ()) -> None:
    simulator, daemon = start(lab, f"gen:size={size},rate={rate},count={FRAMES}", size)
    running = ledger.receiving_guest(lab, "check", *in_place(lab), *guest)
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    lost = ledger.expect_received(simulator, daemon, [report], FRAMES)
    expect(report["received"]["frames"] > 0, f"nothing arrived: {lost}")
    expect(report["received"]["lost"] <= sum(lost.values()), f"{report['received']['lost']} lost, {lost} counted")
    status = daemon.status()
    expect_equal(ledger.total(status, "receive", "copied"), 0, "frames copied")
    expect_equal(ledger.total(status, "receive", "lent"), report["received"]["frames"], "frames lent")
    expect_equal(ledger.total(status, "receive_ring", "bad_returns"), 0, "pages returned that were not the guest's")
    # An idle device takes back what the guest returned.
    wait_until(lambda: daemon.ask("audit")[1]["packets"]["guest"] == 0, "all pages to be back")


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
    expect(not (lab.directory / "pages").exists(), "a clean end leaves the pages behind")


def serves_others_by_copy(lab: Lab) -> None:
    simulator, daemon = start(lab, f"gen:size=64,rate=20000,count={FRAMES}", 64)
    first = ledger.receiving_guest(lab, "check", *in_place(lab))
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: ledger.total(daemon.status(), "receive", "lent") > 100, "frames in pages")
    first.stop()
    second = ledger.receiving_guest(lab, "check")
    wait_until(lambda: ledger.total(daemon.status(), "receive", "copied") > 100, "copied frames")
    report = ledger.finish(simulator, daemon, second)
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    expect_equal(daemon.ask("audit")[1]["packets"]["guest"], 0, "pages with a guest that knows none")
    daemon.expect_clean_audit()


def main() -> None:
    suite = harness.Suite()
    for size in (64, 512, 1518, 9018):
        suite.check(f"{size} bytes in pages, as fast as it goes", receives, size)
    suite.check("64 bytes in pages, with pauses to sleep in", receives, 64, rate=5000)
    suite.check("rings of 2 entries", receives, 64, rate=20000, guest=("--queue-size", "2"))
    suite.check("without event index", receives, 64, rate=20000, guest=("--event-index", "off"))
    suite.check("echo from pages", echoes)
    suite.check("killed in the middle, with pages in the guest's hands", survives_kills)
    suite.check("a guest without VRX after one with it", serves_others_by_copy)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
