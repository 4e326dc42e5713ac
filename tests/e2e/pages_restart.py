#!/usr/bin/python3
"""The daemon dies under a guest that holds pages, and the next one takes its place: what the guest holds stays what it
is, no page is used early, none is lost, no frame comes twice, and each loss has its reason.

The guest lives on (vitrine-guest --reconnect), keeps frames in their pages (--hold) and checks each again before it
gives it back; a page that it is given twice, an early write and a repeated frame are bad in its report.
"""

import random
import sys
import time

import harness
import ledger
from harness import Daemon, Guest, Lab, Simulator, expect, expect_equal, wait_until

RATE = 20000
HELD = 300
MOMENTS = 500 if harness.LONG else 20
# What the NIC's ring and the receive path can hold when the process dies, and what one burst may lose beside.
MOST_UNDER_WAY = 1024 + 64


def pages_path(lab: Lab) -> str:
    return str(lab.directory / "pages")


def living_guest(lab: Lab, *options: str) -> Guest:
    return ledger.receiving_guest(lab, "check", "--pages", pages_path(lab), "--reconnect", "1000", "--hold", str(HELD),
                                  *options)


def next_daemon(lab: Lab, *options: str, **how) -> Daemon:
    return lab.daemon("--rx", "pages", "--pages-path", pages_path(lab), *options, **how)


def lent(daemon: Daemon) -> int:
    return ledger.total(daemon.status(), "receive", "lent")


class Losses:
    """Frames that went down with a process, against those that may have."""

    def __init__(self):
        self.counted = 0
        self.lives = 0

    def add_life(self, daemon: Daemon) -> None:
        """Of a daemon that serves its guest and is about to die: what it dropped while there was none."""
        self.counted += sum(ledger.drops(daemon.status(), "receive").values())
        self.lives += 1

    def expect_explained(self, simulator: Simulator, report: dict) -> None:
        wire = simulator.status()
        lost = wire["wire"]["rx_delivered"] - report["received"]["frames"]
        most = self.counted + self.lives * MOST_UNDER_WAY
        expect(0 <= lost <= most, f"{lost} frames lost behind the NIC in {self.lives} lives; {self.counted} are counted")
        dropped = sum(wire["drops"].values())
        expect(report["received"]["lost"] <= lost + dropped,
               f"the guest misses {report['received']['lost']}: {lost} behind the NIC, {dropped} in it")


def expect_alive(daemon: Daemon) -> None:
    """It lends pages to the guest that was there before it, which goes on returning what it held."""
    daemon.expect_clean_audit()
    wait_until(lambda: lent(daemon) > 2 * HELD, "frames in pages")
    daemon.expect_clean_audit()


def expect_good_end(lab: Lab, simulator: Simulator, daemon: Daemon, guest: Guest, losses: Losses) -> dict:
    simulator.ask("link down")
    losses.add_life(daemon)
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), f"bad frames and broken rules {report}")
    losses.expect_explained(simulator, report)
    expect_equal(ledger.total(daemon.status(), "receive", "copied"), 0, "frames copied")
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())
    return report


def killed_at_random(lab: Lab) -> None:
    moments = random.Random(5)
    simulator = lab.simulator(f"gen:size=64,rate={RATE}", "--doorbells", "poll")
    daemon = next_daemon(lab)
    guest = living_guest(lab)
    losses = Losses()
    expect_alive(daemon)
    for _ in range(MOMENTS):
        losses.add_life(daemon)
        # At any point of the burst, of the return path, or of a sleep.
        time.sleep(moments.uniform(0, 0.05))
        daemon.kill()
        daemon = next_daemon(lab)
        expect_alive(daemon)
    report = expect_good_end(lab, simulator, daemon, guest, losses)
    expect_equal(report["reconnects"], MOMENTS, "returns of the back-end that the guest saw")


def main() -> None:
    suite = harness.Suite()
    suite.check(f"killed at {MOMENTS} random moments under a guest that holds {HELD} pages", killed_at_random)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
