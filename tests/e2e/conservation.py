#!/usr/bin/python3
"""Every frame that is sent is delivered or counted as dropped by name, at both ends and in between, whatever the
frame size, the pace, the doorbells, the number of flows and queues, and the features of the guest."""

import signal
import sys

import harness
import ledger
from harness import Lab, expect, expect_equal, wait_until

FRAMES = 1_000_000 if harness.LONG else 30_000
JUMBO_BYTES = 9018


def start(lab: Lab, wire: str, size: int, simulator_options: tuple = (), daemon_options: tuple = (),
          link: str = "up"):
    jumbo = size > 1518
    simulator = lab.simulator(wire, *(["--pf-mtu", "9000"] if jumbo else []), *simulator_options)
    simulator.ask(f"link {link}")
    daemon = lab.daemon(*(["--mtu", "9000"] if jumbo else []), *daemon_options)
    return simulator, daemon


def receives(lab: Lab, size: int, flows: int = 1, rate: int = 0, doorbells: str = "poll", queues: int = 1,
             guest: tuple = ()) -> None:
    wire = f"gen:size={size},flows={flows},rate={rate},count={FRAMES}"
    options = ["--doorbells", doorbells, *(["--queues", str(queues), "--rss-udp"] if queues > 1 else [])]
    simulator, daemon = start(lab, wire, size, options, ["--queues", str(queues)],
                              link="down")
    running = ledger.receiving_guest(lab, "check", *guest)
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, running)
    lost = ledger.expect_received(simulator, daemon, [report], FRAMES)
    expect(report["received"]["frames"] > 0, "nothing arrived")
    expect(report["received"]["lost"] <= sum(lost.values()), f"{report['received']['lost']} lost, {lost} counted")
    if queues > 1:
        used = [pair["receive"]["frames_from_nic"] > 0 for pair in daemon.status()["pairs"]]
        expect(all(used), f"the flows did not spread over the queues: {used}")
        expect_equal(lost.get("drop_no_guest", 0), 0, "frames of the queue that the guest does not run")


def counts_what_a_slow_guest_misses(lab: Lab, rate: int) -> None:
    """The guest stops in the middle of traffic, so its rings run full, and goes on when the wire has sent all."""
    wire = f"gen:size=64,rate={rate},count={FRAMES}"
    simulator, daemon = start(lab, wire, 64, ["--doorbells", "poll"], link="down")
    guest = ledger.receiving_guest(lab)
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: simulator.status()["wire"]["rx_delivered"] > FRAMES // 10, "traffic")
    guest.send(signal.SIGSTOP)
    wait_until(lambda: simulator.status()["done"], "the wire")
    guest.send(signal.SIGCONT)
    report = ledger.finish(simulator, daemon, guest)
    lost = ledger.expect_received(simulator, daemon, [report], FRAMES)
    expect(lost.get("drop_no_buffer", 0) > 0, f"a guest that stands still loses frames for want of buffers: {lost}")


def counts_what_nobody_receives(lab: Lab) -> None:
    simulator, daemon = start(lab, f"gen:size=64,rate=100000,count={FRAMES}", 64)
    ledger.settle(simulator, daemon)
    lost = ledger.expect_received(simulator, daemon, [], FRAMES)
    expect_equal(lost.get("drop_no_guest", 0) + lost.get("no_descriptor", 0), FRAMES, f"without a guest, {lost}")


def sends(lab: Lab, size: int, flows: int = 1, doorbells: str = "poll", guest_dma: str = "off",
          guest: tuple = ()) -> None:
    simulator, daemon = start(lab, "gen:count=0", size, ["--doorbells", doorbells], ["--guest-dma", guest_dma])
    options = ["--size", str(size), "--flows", str(flows), "--count", str(FRAMES), *guest]
    report = lab.guest("tx", *options).report()
    ledger.settle(simulator, daemon)
    lost = ledger.expect_sent(simulator, daemon, [report])
    expect_equal(lost, {}, "drops")
    expect_equal(report["sent"]["frames"], FRAMES, "frames that the guest sent")
    checked = simulator.status()["tx_checked"]
    expect_equal(checked, {"good": FRAMES, "bad": 0, "lost": 0, "out_of_order": 0, "not_stamped": 0},
                 "stamps at the wire")
    in_place = ledger.total(daemon.status(), "transmit", "zero_copy")
    if guest_dma == "off":
        expect_equal(in_place, 0, "frames read in guest memory without --guest-dma=on")
    elif size > 256:
        expect(in_place > FRAMES // 2, f"only {in_place} frames were sent in place")


def counts_what_is_too_long_to_send(lab: Lab) -> None:
    simulator, daemon = start(lab, "gen:count=0", 64)
    report = lab.guest("tx", "--size", "2000", "--count", "1000").report()
    ledger.settle(simulator, daemon)
    lost = ledger.expect_sent(simulator, daemon, [report])
    expect_equal(lost, {"tx_oversize": 1000}, "drops of frames beyond the MTU")


def echoes(lab: Lab, size: int) -> None:
    simulator, daemon = start(lab, f"gen:size={size},rate=20000,count={FRAMES}", size, link="down")
    guest = ledger.receiving_guest(lab, "echo")
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, guest)
    ledger.settle(simulator, daemon)
    ledger.expect_received(simulator, daemon, [report], FRAMES)
    ledger.expect_sent(simulator, daemon, [report])
    checked = simulator.status()["tx_checked"]
    expect_equal(checked["good"], report["received"]["frames"], "echoes that came back well")
    expect_equal(checked["bad"] + checked["out_of_order"] + checked["not_stamped"], 0, f"bad echoes {checked}")


def one_frame_and_then_silence(lab: Lab) -> None:
    """Both ways: no tail waits for the next frame to come."""
    simulator, daemon = start(lab, "gen:size=64,count=1", 64, link="down")
    ledger.receiving_guest(lab, "echo")
    ledger.open_wire(simulator, daemon)
    wait_until(lambda: simulator.status()["tx_checked"]["good"] == 1, "the echo of one frame")
    ledger.settle(simulator, daemon)
    daemon.expect_clean_audit()


def main() -> None:
    suite = harness.Suite()
    for size in (64, 1518, JUMBO_BYTES):
        for flows in (1, 2):
            suite.check(f"{size} byte frames in {flows} flows as fast as they come: each arrives or is counted",
                        receives, size, flows)
        suite.check(f"{size} byte frames in 2 flows at a pace: each arrives or is counted", receives, size, 2,
                    rate=20000)
        suite.check(f"{size} byte frames with trapped doorbells: each arrives or is counted", receives, size,
                    doorbells="trap")
    suite.check("flows over two queues of the NIC to a guest that runs one pair: each frame arrives or is counted",
                receives, 64, flows=64, queues=2)
    for options in (["--merge", "off"], ["--event-index", "off"], ["--indirect", "on"], ["--queue-size", "16"]):
        suite.check(f"a guest with {' '.join(options)} receives, and what it misses is counted", receives, 1518,
                    guest=options)
    suite.check("a guest that stands still under unpaced traffic: what it misses is counted",
                counts_what_a_slow_guest_misses, 0)
    suite.check("a guest that stands still under paced traffic: what it misses is counted",
                counts_what_a_slow_guest_misses, 20000)
    suite.check("frames for nobody are counted", counts_what_nobody_receives)

    for size in (64, 1518, JUMBO_BYTES):
        for doorbells in ("poll", "trap"):
            suite.check(f"{size} byte frames from the guest, doorbells by {doorbells}: all reach the wire", sends, size,
                        2, doorbells)
        suite.check(f"{size} byte frames from guest memory without a copy: all reach the wire", sends, size, 2,
                    guest_dma="on")
    for options in (["--event-index", "off"], ["--indirect", "on"], ["--queue-size", "16"]):
        suite.check(f"a guest with {' '.join(options)} sends, and all reaches the wire", sends, 1518, guest=options)
        suite.check(f"a guest with {' '.join(options)} sends without a copy, and all reaches the wire", sends, 1518,
                    guest_dma="on", guest=options)
    suite.check("frames from the guest beyond the MTU are counted", counts_what_is_too_long_to_send)
    for size in (64, 1518, JUMBO_BYTES):
        suite.check(f"{size} byte frames echoed by the guest come back, or are counted", echoes, size)
    suite.check("one frame and then silence is completed on both sides", one_frame_and_then_silence)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
