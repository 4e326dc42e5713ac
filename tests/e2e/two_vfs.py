#!/usr/bin/python3
"""Two vitrines, each with its guest, on two functions of one port: what one sends reaches the other by the switch,
and the books are exact at all ends."""

import sys

import harness
import ledger
from harness import Daemon, Guest, Lab, Simulator, expect, expect_equal, wait_until

FRAMES = 300_000 if harness.LONG else 20_000
MACS = ("02:56:46:00:00:01", "02:56:46:00:00:02")
BROADCAST = "ff:ff:ff:ff:ff:ff"
PATIENCE = str(10 * harness.PATIENCE_SECONDS)


class TwoFunctions:
    """One simulator with two sockets and a daemon on each; the second's files are in a directory of their own."""

    def __init__(self, lab: Lab, wire: str, *options: str):
        self.lab = lab
        second = lab.directory / "second"
        second.mkdir()
        self.directories = (lab.directory, second)
        self.simulator: Simulator = lab.simulator(wire, "--socket", str(second / "vf.sock"), "--doorbells", "poll",
                                                  *options)
        self.daemons = [lab.keep(Daemon(directory, (), lab.name("vitrine"))) for directory in self.directories]

    def guest(self, number: int, mode: str, *options: str) -> Guest:
        return self.lab.keep(Guest(self.directories[number], mode, options, self.lab.name("guest")))

    def waiting_guest(self, number: int, mode: str) -> Guest:
        guest = self.guest(number, mode, "--idle-seconds", PATIENCE, "--wait-seconds", PATIENCE)
        wait_until(lambda: int(self.daemons[number].status()["front_end"]["features"], 16), "the front-end")
        return guest

    def function(self, number: int) -> dict:
        return self.simulator.status()["vfs"][number]

    def settled(self, number: int) -> bool:
        """What the function delivered, vitrine has taken, and what vitrine gave, the function has sent."""
        function, status = self.function(number), self.daemons[number].status()
        return (function["wire"]["rx_delivered"] + function["switched"]["delivered"]
                == ledger.total(status, "receive", "frames_from_nic")
                and function["tx"]["frames"] + sum(function["tx"]["dropped"].values())
                == ledger.total(status, "transmit", "frames_to_nic"))

    def settle(self) -> None:
        wait_until(lambda: self.simulator.status()["done"] and self.settled(0) and self.settled(1) and self.settled(0),
                   "the frames under way")

    def expect_books(self) -> list[int]:
        """At both ends and in between. Returns how many frames each guest was given."""
        given = []
        for number, daemon in enumerate(self.daemons):
            function, status = self.function(number), daemon.status()
            ledger.expect_faultless(function)
            for part, delivered in (("wire", "rx_delivered"), ("switched", "delivered")):
                drops = function["drops"] if part == "wire" else function["switched"]["drops"]
                expect_equal(function[part][delivered] + sum(drops.values()), function[part]["offered"],
                             f"function {number}, {part}: delivered and dropped {drops}")
            from_nic = ledger.total(status, "receive", "frames_from_nic")
            to_guest = ledger.total(status, "receive_ring", "frames")
            dropped = ledger.drops(status, "receive")
            expect_equal(from_nic, function["wire"]["rx_delivered"] + function["switched"]["delivered"],
                         f"frames that vitrine {number} took from its function")
            expect_equal(to_guest + sum(dropped.values()), from_nic, f"given to guest {number} and dropped {dropped}")
            expect_equal(function["tx"]["frames"] + sum(function["tx"]["dropped"].values()),
                         ledger.total(status, "transmit", "frames_to_nic"), f"sent and dropped by function {number}")
            daemon.expect_clean_audit()
            given.append(to_guest)
        return given


def sends_to_the_other(lab: Lab, size: int) -> None:
    two = TwoFunctions(lab, "gen:count=0")
    receiver = two.waiting_guest(1, "check")
    sender = two.guest(0, "tx", "--size", str(size), "--count", str(FRAMES), "--destination", MACS[1]).report()
    two.settle()
    report = receiver.stop()
    given = two.expect_books()
    expect_equal(sender["sent"]["frames"], FRAMES, "frames that the guest sent")
    expect_equal(two.function(1)["switched"]["offered"], FRAMES, "frames that the switch brought to the other")
    expect_equal(two.function(0)["tx"]["to_wire"], 0, "frames that left the port")
    expect_equal(report["received"]["frames"], given[1], "frames that the other guest saw")
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")
    expect(given[1] > 0, "nothing arrived")


def broadcasts(lab: Lab) -> None:
    """Everybody else hears it, the sender does not."""
    two = TwoFunctions(lab, "gen:count=0")
    receiver = two.waiting_guest(1, "check")
    two.guest(0, "tx", "--size", "64", "--count", str(FRAMES), "--destination", BROADCAST).report()
    two.settle()
    report = receiver.stop()
    given = two.expect_books()
    expect_equal(two.function(1)["switched"]["offered"], FRAMES, "copies for the other")
    expect_equal(two.function(0)["switched"]["offered"], 0, "copies for the sender")
    expect_equal(two.simulator.status()["tx_checked"]["good"], FRAMES, "frames at the wire")
    expect_equal(report["received"]["frames"], given[1], "frames that the other guest saw")
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")


def echoes_between(lab: Lab) -> None:
    """What the wire sends to one guest comes back to the wire; what the other sends comes back through the switch."""
    two = TwoFunctions(lab, f"gen:size=64,rate=5000,count={FRAMES}")
    two.simulator.ask("link down")
    echo = two.waiting_guest(0, "echo")
    two.simulator.ask("link up")
    sender = two.guest(1, "tx", "--size", "1518", "--rate", "5000", "--count", str(FRAMES), "--destination", MACS[0])
    sender.report(600)
    two.settle()
    report = echo.stop()
    given = two.expect_books()
    expect_equal(two.function(0)["switched"]["offered"], FRAMES, "frames from the other")
    expect_equal(report["received"]["frames"], given[0], "frames that the echo saw")
    expect_equal(two.function(1)["switched"]["offered"] + two.function(0)["tx"]["to_wire"], given[0], "echoes")
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")
    expect(two.function(1)["switched"]["offered"] > 0, "no echo came back through the switch")


def port_vlans_separate(lab: Lab, second: int, arrives: bool) -> None:
    """Given at the command line, where any command of the control socket can stand."""
    port = TwoFunctions(lab, "null", "--command", "vlan 5", "--command", f"vf 1 vlan {second}")
    receiver = port.waiting_guest(1, "check")
    port.guest(0, "tx", "--count", "1000", "--destination", MACS[1]).report()
    port.settle()
    expect_equal(port.function(1)["switched"]["offered"], 1000 if arrives else 0, "frames from one to the other")
    report = receiver.stop()
    given = port.expect_books()
    expect_equal(report["received"]["frames"], given[1], "frames that the guest received")
    expect_equal(given[1] > 0, arrives, "whether anything arrived")


def main() -> None:
    suite = harness.Suite()
    for size in (64, 1518):
        suite.check(f"{size} byte frames from one guest to the other stay inside the port", sends_to_the_other, size)
    suite.check("broadcast reaches the other guest and the wire, not its sender", broadcasts)
    suite.check("a guest echoes to the wire and to the other guest, each its own", echoes_between)
    suite.check("functions in one port VLAN hear each other", port_vlans_separate, 5, True)
    suite.check("functions in two port VLANs do not", port_vlans_separate, 6, False)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
