#!/usr/bin/python3
"""Packed rings: frames both ways, by copy and in pages, none bad and each one received or in a drop with a name; also
while the link goes and the NIC is reset, and what becomes of them when the daemon dies."""

import sys

import harness
import ledger
from harness import Daemon, Lab, expect, expect_equal, wait_until

FRAMES = 1_000_000 if harness.LONG else 30_000
KILLS = 20 if harness.LONG else 3


def start(lab: Lab, wire: str, size: int, *options: str):
    jumbo = size > 1518
    simulator = lab.simulator(wire, *(["--pf-mtu", "9000"] if jumbo else []))
    simulator.ask("link down")
    return simulator, daemon_with_packed(lab, *(["--mtu", "9000"] if jumbo else []), *options)


def daemon_with_packed(lab: Lab, *options: str) -> Daemon:
    return lab.daemon("--packed", "on", "--rx", "pages", "--pages-path", str(lab.pages), *options)


def packed_guest(lab: Lab, mode: str, in_pages: bool, *options: str):
    return ledger.receiving_guest(lab, mode, "--packed", "on", *(["--pages", str(lab.pages)] if in_pages else []),
                                  *options)


def runs_as(daemon: Daemon) -> str:
    return daemon.status()["pairs"][0]["receive_ring"]["runs_as"]


def name_of(in_pages: bool) -> str:
    return "pages, packed" if in_pages else "copy, packed"


def moved(daemon: Daemon, in_pages: bool) -> int:
    return ledger.total(daemon.status(), "receive", "lent" if in_pages else "copied")


def receives(lab: Lab, size: int, in_pages: bool, rate: int = 0, guest: tuple = ()) -> None:
    simulator, daemon = start(lab, f"gen:size={size},rate={rate},count={FRAMES}", size)
    running = packed_guest(lab, "check", in_pages, *guest)
    ledger.open_wire(simulator, daemon)
    ledger.settle(simulator, daemon)
    expect_equal(runs_as(daemon), name_of(in_pages), "the ring")
    report = running.stop()
    lost = ledger.expect_received(simulator, daemon, [report], FRAMES)
    expect(report["received"]["frames"] > 0, f"nothing arrived: {lost}")
    expect(report["received"]["lost"] <= sum(lost.values()), f"{report['received']['lost']} lost, {lost} counted")
    expect_equal(moved(daemon, in_pages), report["received"]["frames"], "frames that went this way")
    expect_equal(ledger.total(daemon.status(), "receive_ring", "bad_returns"), 0, "pages returned that were not lent")


def echoes(lab: Lab, in_pages: bool, *options: str) -> None:
    simulator, daemon = start(lab, f"gen:size=512,rate=20000,count={FRAMES}", 512, *options)
    running = packed_guest(lab, "echo", in_pages)
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    ledger.expect_received(simulator, daemon, [report], FRAMES)
    ledger.expect_sent(simulator, daemon, [report])
    wire = simulator.status()
    expect_equal((wire["tx_checked"]["bad"], wire["tx_checked"]["good"] > 0), (0, True),
                 "bad and good frames on the wire")


def survives_the_nic(lab: Lab, in_pages: bool) -> None:
    simulator, daemon = start(lab, "gen:size=64,rate=20000", 64)
    simulator.ask("link up")
    guest = packed_guest(lab, "echo", in_pages)
    for disturbance in ("flr", "link down", "pf-reset"):
        before = moved(daemon, in_pages)
        wait_until(lambda: moved(daemon, in_pages) > before + 500, "frames")
        expect("error" not in simulator.ask(disturbance), f"vf_sim does not know {disturbance}")
        if disturbance == "link down":
            wait_until(lambda: daemon.status()["vf"]["state"] == "link down", "the link to be down")
            simulator.ask("link up")
    before = moved(daemon, in_pages)
    wait_until(lambda: moved(daemon, in_pages) > before + 500, "frames after all that")
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    daemon.expect_clean_audit()


def dies(lab: Lab, in_pages: bool) -> None:
    """The guest has to start anew, and gets all pages that it had."""
    simulator, daemon = start(lab, "gen:size=64,rate=50000", 64)
    simulator.ask("link up")
    for _ in range(KILLS):
        guest = packed_guest(lab, "check", in_pages)
        wait_until(lambda: moved(daemon, in_pages) > 1000, "frames")
        daemon.kill()
        report = guest.report(code=1)
        expect_equal((report["ending"], report["bad"], report["violations"]), ("backend_gone", 0, 0), "its last report")
        daemon = daemon_with_packed(lab)
        daemon.expect_clean_audit()
    guest = packed_guest(lab, "check", in_pages)
    wait_until(lambda: moved(daemon, in_pages) > 1000, "frames")
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    daemon.expect_clean_audit()


def a_hoarder_starves_alone(lab: Lab) -> None:
    """One guest, two queues on one region: of one it never returns a page."""
    simulator = lab.simulator("gen:size=64,rate=1000,flows=64", "--queues", "2", "--rss-udp")
    simulator.ask("link down")
    daemon = daemon_with_packed(lab, "--queues", "2")
    guest = packed_guest(lab, "check", True, "--queues", "2", "--hoard", "1")
    ledger.open_wire(simulator, daemon)

    def pair(number: int) -> dict:
        return daemon.status()["pairs"][number]

    def starves() -> bool:
        return pair(1)["receive"]["drop_no_buffer"] + pair(1)["receive"]["drop_held"] > 0

    wait_until(starves, "the hoarder to run dry")
    before, held = pair(0)["receive"]["lent"], pair(1)["receive_ring"]["held"]
    wait_until(lambda: pair(0)["receive"]["lent"] > before + 1000, "frames by the other queue")
    status = daemon.status()
    expect_equal([one["receive_ring"]["runs_as"] for one in status["pairs"]], ["pages, packed"] * 2, "the rings")
    expect_equal({name: count for name, count in status["pairs"][0]["receive"].items()
                  if name.startswith("drop_") and count != 0}, {}, "drops of the other queue")
    expect_equal(status["pairs"][1]["receive_ring"]["held"], held, "pages that the hoarder has")
    expect_equal(status["vf"]["rx_ring"]["pool_empty"], 0, "times that the NIC found no page")
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    daemon.expect_clean_audit()


def takes_what_it_is_offered(lab: Lab) -> None:
    """Split rings from who offers both; and an error that helps from who offers no packed ones."""
    simulator, daemon = start(lab, f"gen:size=64,rate=20000,count={FRAMES // 10}", 64)
    running = ledger.receiving_guest(lab, "check", "--pages", str(lab.pages))
    ledger.open_wire(simulator, daemon)
    ledger.settle(simulator, daemon)
    expect_equal(runs_as(daemon), "pages", "the ring of a guest that wants a split one")
    ledger.expect_received(simulator, daemon, [running.stop()], FRAMES // 10)
    daemon.terminate()
    lab.daemon()
    refused = packed_guest(lab, "check", False)
    expect_equal(refused.finish(), 1, "exit code without packed rings")
    expect("vitrine run --packed on" in refused.errors, f"it said {refused.errors!r}")


def main() -> None:
    suite = harness.Suite()
    for in_pages in (False, True):
        way = name_of(in_pages)
        for size in (64, 1518, 9018):
            suite.check(f"{way}: {size} bytes as fast as it goes", receives, size, in_pages)
        suite.check(f"{way}: 64 bytes with pauses to sleep in", receives, 64, in_pages, rate=5000)
        suite.check(f"{way}: rings of few entries", receives, 64, in_pages, rate=20000, guest=("--queue-size", "4"))
        suite.check(f"{way}: without event index", receives, 64, in_pages, rate=20000, guest=("--event-index", "off"))
        suite.check(f"{way}: echo", echoes, in_pages)
        suite.check(f"{way}: the NIC is reset, and its link goes", survives_the_nic, in_pages)
        suite.check(f"{way}: killed in the middle", dies, in_pages)
    suite.check("pages, packed: frames that are held do not change", receives, 64, True, rate=20000,
                guest=("--hold", "200"))
    suite.check("pages, packed: a hoarder starves alone", a_hoarder_starves_alone)
    suite.check("copy, packed: indirect tables", receives, 1518, False, rate=20000, guest=("--indirect", "on"))
    suite.check("copy, packed: without mergeable buffers", receives, 1518, False, rate=20000, guest=("--merge", "off"))
    suite.check("copy, packed: echo by zero copy", echoes, False, "--guest-dma", "on")
    suite.check("split rings beside packed ones, and packed ones that are not offered", takes_what_it_is_offered)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
