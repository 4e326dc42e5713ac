#!/usr/bin/python3
"""The daemon dies under a guest that holds pages, and the next one takes its place: what the guest holds stays what it
is, no page is used early, none is lost, no frame comes twice, and each loss has its reason.

The guest lives on (vitrine-guest --reconnect), keeps frames in their pages (--hold) and checks each again before it
gives it back; a page that it is given twice, an early write and a repeated frame are bad in its report.
"""

import collections.abc
import json
import os
import pathlib
import random
import re
import signal
import sys
import time

import harness
import ledger
from harness import Daemon, Guest, Lab, Simulator, expect, expect_equal, wait_until

RATE = 20000
HELD = 300
MOMENTS = 500 if harness.LONG else 20
HITS = (1, 2, 3, 17, 40, 41, 64, 65, 200) if harness.LONG else (1, 5)
WITHOUT_SECCOMP = ("--allow-root", "--allow-same-uid", "--seccomp", "off")  # a SIGKILL to itself is no call of vitrine's
# What the NIC's ring and the receive path can hold when the process dies, and what one burst may lose beside.
MOST_UNDER_WAY = 1024 + 64


def pages_path(lab: Lab) -> str:
    return str(lab.pages)


def living_guest(lab: Lab, *options: str) -> Guest:
    return ledger.receiving_guest(lab, "check", "--pages", pages_path(lab), "--reconnect", "1000", "--hold", str(HELD),
                                  *options)


def next_daemon(lab: Lab, *options: str, **how) -> Daemon:
    return lab.daemon("--rx", "pages", "--pages-path", pages_path(lab), *options, **how)


def lent(daemon: Daemon) -> int:
    return ledger.total(daemon.status(), "receive", "lent")


def pages_with_guest(daemon: Daemon) -> int:
    return daemon.ask("audit")[1]["packets"]["guest"]


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


def steps() -> list[tuple[str, int, str]]:
    """Every mark of the device's code: file, line, and the text in front, by which a reader knows it."""
    found = []
    for name in ("virtio/pages_queue.hpp", "virtio/page_lending.hpp", "mem/page_ledger.hpp"):
        lines = (harness.ROOT / name).read_text().splitlines()
        found += [(pathlib.Path(name).name, number, lines[number - 2].strip())
                  for number, line in enumerate(lines, 1) if re.fullmatch(r"\s+step_?\(\);", line)]
    return found


def hits_of(step: tuple[str, int, str]) -> tuple[int, ...]:
    """Some are done once in a start."""
    once = "grant()" in step[2] or "clear_journal" in step[2] or (is_fresh_start(step) and "give(" not in step[2])
    return HITS[:1] if once else HITS


def dies_at(lab: Lab, simulator: Simulator, step: tuple[str, int, str], hit: int,
            before_traffic: collections.abc.Callable[[], None] = lambda: None) -> None:
    """A vitrine that comes to its guest and dies when it does this step for the n-th time."""
    simulator.ask("link down")  # until its guest is there: what it drops before would be known to it alone
    os.environ["VITRINE_DIE_AT"] = f"{step[0]}:{step[1]}:{hit}"
    try:
        # A guest that returns pages at once can bring it to that step before we have looked.
        daemon = next_daemon(lab, program="vitrine_dying", trust=WITHOUT_SECCOMP, may_end=True)
    finally:
        del os.environ["VITRINE_DIE_AT"]
    before_traffic()
    wait_until(lambda: guest_there(daemon), "the guest to come back")
    simulator.ask("link up")
    expect_equal(daemon.finish(), -signal.SIGKILL, f"the end of a vitrine that should die at {step}, hit {hit}")


def guest_there(daemon: Daemon) -> bool:
    """Or the daemon is dead."""
    done = daemon.run_vitrinectl("status")
    return done.returncode != 0 or "2 rings" in json.loads(done.stdout)["summary"]


def succeeds(lab: Lab, simulator: Simulator) -> Daemon:
    daemon = next_daemon(lab)
    simulator.ask("link up")
    expect_alive(daemon)
    return daemon


def is_fresh_start(step: tuple[str, int, str]) -> bool:
    """Where a living guest does not lead: its driver knows nothing of the pages lent before."""
    return step[0] == "page_lending.hpp" or "grant()" in step[2]


def takes_back_unseen(step: tuple[str, int, str]) -> bool:
    """Of a live start after a death between journal and used.idx."""
    return "take_back(queue_, page)) lending_.give" in step[2]


def killed_at_steps(lab: Lab) -> None:
    """With the same guest all the time."""
    simulator = lab.simulator(f"gen:size=64,rate={RATE}", "--doorbells", "poll")
    simulator.ask("link down")
    daemon = next_daemon(lab)
    guest = living_guest(lab)
    ledger.open_wire(simulator, daemon)
    losses = Losses()
    expect_alive(daemon)
    living = [step for step in steps() if not is_fresh_start(step)]
    puts = next(step for step in living if "put_page(" in step[2])
    served = 0
    for step in living:
        for hit in hits_of(step):
            losses.add_life(daemon)
            daemon.kill()
            if takes_back_unseen(step):
                dies_at(lab, simulator, puts, hit)
                dies_at(lab, simulator, step, 1)
                losses.lives += 2
            else:
                dies_at(lab, simulator, step, hit)
                losses.lives += 1
            daemon = succeeds(lab, simulator)
            served += 1
    report = expect_good_end(lab, simulator, daemon, guest, losses)
    # A ring is taken up as soon as it starts: who dies there has not said to the guest that it is back.
    expect(served <= report["reconnects"] < losses.lives,
           f"the guest saw {report['reconnects']} of {losses.lives - 1} returns, and {served} served it")


def killed_at_fresh_starts(lab: Lab) -> None:
    """The guest dies with pages in its hands, and vitrine while it takes them back for the next one."""
    simulator = lab.simulator(f"gen:size=64,rate={RATE}", "--doorbells", "poll")
    for step in filter(is_fresh_start, steps()):
        for hit in hits_of(step):
            daemon = next_daemon(lab)
            guest = living_guest(lab)
            simulator.ask("link up")
            expect_alive(daemon)
            guest.kill()
            expect(pages_with_guest(daemon) > 0, "the dead guest left no pages")
            daemon.kill()
            guests = []
            dies_at(lab, simulator, step, hit, lambda: guests.append(living_guest(lab)))
            daemon = succeeds(lab, simulator)
            report = guests[0].stop()
            expect_equal((report["bad"], report["violations"]), (0, 0), f"bad frames and broken rules {report}")
            daemon.expect_clean_audit()
            daemon.kill()


def main() -> None:
    suite = harness.Suite()
    if (harness.BUILD / "vitrine_dying").exists():
        suite.check("killed at every step of burst and return path under a guest that holds pages", killed_at_steps)
        suite.check("killed at every step that takes a dead guest's pages back", killed_at_fresh_starts)
    else:
        print("SKIP: vitrine_dying is not built: no deaths at chosen steps", flush=True)
    suite.check(f"killed at {MOMENTS} random moments under a guest that holds {HELD} pages", killed_at_random)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
