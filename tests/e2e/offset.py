#!/usr/bin/python3
"""Frames that the NIC writes into the guest's own buffers (VRX OFFSET with --guest-dma on): none copied, none bad, each
one received or in a drop with a name; also while the ring stops and starts, the VF resets, and the daemon is killed."""

import sys

import harness
import ledger
from harness import Lab, expect, expect_equal, wait_until

SECONDS = 2.5  # of traffic: rings begin by copy, and change within one second
FRAMES = 1_000_000  # of 64 bytes in the long form
ENDLESS = "gen:size=64,rate=20000"


def daemon_with_offsets(lab: Lab, *options: str):
    return lab.daemon("--rx", "pages", "--pages-path", str(lab.pages), *options)


def start(lab: Lab, wire: str, *options: str, size: int = 64):
    jumbo = size > 1518
    simulator = lab.simulator(wire, *(["--pf-mtu", "9000"] if jumbo else []))
    simulator.ask("link down")
    return simulator, daemon_with_offsets(lab, *(["--mtu", "9000"] if jumbo else []), *options)


def receiving(lab: Lab, *options: str):
    return ledger.receiving_guest(lab, "check", "--offset", str(lab.pages), *options)


def direct(daemon) -> int:
    return ledger.total(daemon.status(), "receive", "direct")


def is_direct(daemon) -> bool:
    return daemon.status()["pairs"][0]["receive"]["is_direct"]


def await_direct(daemon, more: int = 1000) -> None:
    before = direct(daemon)
    wait_until(lambda: direct(daemon) >= before + more, "frames that the NIC wrote into the guest's buffers")


def receives(lab: Lab, size: int, rate: int, guest: tuple = (), frames: int = 0) -> None:
    frames = frames or int(SECONDS * rate)
    simulator, daemon = start(lab, f"gen:size={size},rate={rate},count={frames}", "--guest-dma", "on", size=size)
    running = receiving(lab, *guest)
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    lost = ledger.expect_received(simulator, daemon, [report], frames)
    status = daemon.status()
    by_nic, copied = direct(daemon), ledger.total(status, "receive", "copied")
    expect(by_nic > 0, f"nothing was written by the NIC; {copied} copied, lost {lost}, {status['direct']}")
    expect_equal(by_nic + copied, report["received"]["frames"], "frames direct and copied")
    expect(report["received"]["lost"] <= sum(lost.values()), f"{report['received']['lost']} lost, {lost} counted")


def copies(lab: Lab, reason: str, *options: str) -> None:
    frames = 10000
    simulator = lab.simulator(f"gen:size=512,rate={frames},count={frames}", "--queues", "2")
    simulator.ask("link down")
    daemon = daemon_with_offsets(lab, *options)
    running = receiving(lab)
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: daemon.status()["direct"][reason] > 0, "the reason to be counted")
    report = ledger.finish(simulator, daemon, running)
    ledger.expect_received(simulator, daemon, [report], frames)
    expect_equal(direct(daemon), 0, "frames that the NIC wrote")


def survives_kills(lab: Lab) -> None:
    simulator, daemon = start(lab, ENDLESS, "--guest-dma", "on")
    simulator.ask("link up")
    guest = receiving(lab, "--reconnect", "1000")
    for _ in range(20 if harness.LONG else 2):
        await_direct(daemon)
        daemon.kill()
        daemon = daemon_with_offsets(lab, "--guest-dma", "on")
        daemon.expect_clean_audit()
    await_direct(daemon)
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())


def rings_and_vf_come_and_go(lab: Lab) -> None:
    simulator, daemon = start(lab, ENDLESS, "--guest-dma", "on")
    simulator.ask("link up")
    for turn in range(10 if harness.LONG else 1):
        guest = receiving(lab)
        await_direct(daemon)
        simulator.ask("pf-reset")
        wait_until(lambda: daemon.status()["vf"]["resets"] > turn, "vitrine to reset the VF")
        await_direct(daemon)
        simulator.ask("link down")
        wait_until(lambda: daemon.status()["vf"]["state"] == "link down", "vitrine to notice")
        expect(not is_direct(daemon), "direct without a link")
        simulator.ask("link up")
        await_direct(daemon)
        daemon.expect_clean_audit()
        report = guest.stop()  # stops the rings in traffic
        expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
        status = daemon.status()
        expect_equal(ledger.total(status, "receive", "frames_from_nic"),
                     ledger.total(status, "receive_ring", "frames") + sum(ledger.drops(status, "receive").values()),
                     "given to the guest and dropped")
        ledger.expect_faultless(simulator.status())
    daemon.expect_clean_audit()


def main() -> None:
    suite = harness.Suite()
    suite.check("64 bytes into the guest's buffers", receives, 64, 50000)
    suite.check("9018 bytes into the guest's buffers", receives, 9018, 5000)
    suite.check("1518 bytes, with pauses to sleep in, without event index", receives, 1518, 2000,
                guest=("--event-index", "off"))
    suite.check("a ring of 2 entries", receives, 64, 5000, guest=("--queue-size", "2"))
    if harness.LONG:
        suite.check(f"{FRAMES} frames into the guest's buffers", receives, 64, 50000, frames=FRAMES)
    suite.check("copied where the operator does not allow it", copies, "copied_no_guest_dma")
    suite.check("copied while the guest runs fewer rings than the NIC has queues", copies, "copied_fewer_rings",
                "--guest-dma", "on", "--queues", "2")
    suite.check("killed in the middle, under a living guest", survives_kills)
    suite.check("the VF resets, the link goes, the rings stop, all in traffic", rings_and_vf_come_and_go)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
