#!/usr/bin/python3
"""Each fault that the simulated card can be told to have, in traffic: vitrine notices it, says so in its log and in a
counter, and frames flow again when the cause has ended. How soon it notices is for the tests with an injected clock;
the limits here are hang guards."""

import sys

import harness
import ledger
from harness import Daemon, Guest, Lab, Simulator, expect, expect_equal, wait_until

ENDLESS = "gen:size=64,rate=2000"
ROUNDS = 3 if harness.LONG else 1


class Chain:
    """A wire that never ends, one daemon, and a guest that echoes it all."""

    def __init__(self, lab: Lab):
        self.simulator: Simulator = lab.simulator(ENDLESS, "--doorbells", "poll")
        self.daemon: Daemon = lab.daemon()
        self.guest: Guest = ledger.receiving_guest(lab, "echo")
        self.expect_traffic()

    def vf(self) -> dict:
        return self.daemon.status()["vf"]

    def moved(self) -> tuple[int, int]:
        status = self.daemon.status()
        return (ledger.total(status, "receive_ring", "frames"), self.simulator.status()["tx"]["frames"])

    def expect_traffic(self) -> None:
        """Both ways, now."""
        received, sent = self.moved()
        wait_until(lambda: self.moved()[0] > received + 200 and self.moved()[1] > sent + 200, "traffic both ways")

    def fault(self, what: str) -> None:
        expect("error" not in self.simulator.ask(f"fault {what}"), f"fault {what} was refused")

    def log_says(self, words: str) -> bool:
        return words in self.daemon.output_file.read_text() + self.daemon.errors

    def finish(self) -> None:
        self.expect_traffic()
        self.daemon.expect_clean_audit()
        report = self.guest.stop()
        expect_equal(report["violations"], 0, f"broken rules {report}")
        self.daemon.expect_clean_audit()


def trouble(lab: Lab, fault: str, name: str, resets: bool) -> None:
    """One that a look at the rings and counters shows."""
    chain = Chain(lab)
    for round_number in range(1, ROUNDS + 1):
        before = chain.vf()
        chain.fault(fault)
        wait_until(lambda: chain.vf()["troubles"][name] > before["troubles"][name], f"vitrine to notice {fault}")
        expect(chain.log_says(f"VF: {name}"), f"the log does not name {name}: {chain.daemon.errors}")
        chain.daemon.expect_clean_audit()
        chain.fault("clear")
        if resets:
            wait_until(lambda: chain.vf()["resets"] > before["resets"], f"reset {round_number}")
        chain.expect_traffic()
    chain.finish()


def mailbox(lab: Lab, fault: str, counter: str, words: str) -> None:
    """One that shows when the PF is asked: at a reset."""
    chain = Chain(lab)
    for _ in range(ROUNDS):
        before = chain.vf()
        chain.fault(fault)
        chain.simulator.ask("pf-reset 20")
        wait_until(lambda: chain.vf()[counter] > before[counter], f"vitrine to notice {fault}")
        expect(chain.log_says(words), f"the log does not say '{words}': {chain.daemon.errors}")
        chain.daemon.expect_clean_audit()
        chain.fault("clear")
        wait_until(lambda: chain.vf()["resets"] > before["resets"], "a reset that works")
        chain.expect_traffic()
    chain.finish()


def wrong_version(lab: Lab) -> None:
    chain = Chain(lab)
    chain.fault("mailbox-version")
    chain.simulator.ask("pf-reset 20")
    wait_until(lambda: chain.vf().get("mailbox_api_misreported"), "vitrine to notice")
    expect(chain.log_says("another mailbox version"), chain.daemon.errors)
    expect_equal(chain.vf()["mailbox_api"], "1.0", "mailbox version in use")
    chain.expect_traffic()
    chain.fault("clear")
    chain.simulator.ask("pf-reset 20")
    wait_until(lambda: chain.vf()["mailbox_api"] == "1.3", "the right version")
    chain.finish()


def reset_indication(lab: Lab) -> None:
    chain = Chain(lab)
    for _ in range(ROUNDS):
        before = chain.vf()
        chain.fault("rsti")
        wait_until(lambda: chain.vf()["state"] == "in reset", "vitrine to notice")
        wait_until(lambda: chain.vf()["mailbox_silent"] > before["mailbox_silent"], "a reset that fails")
        chain.daemon.expect_clean_audit()
        chain.fault("clear")
        wait_until(lambda: chain.vf()["resets"] > before["resets"], "a reset that works")
        chain.expect_traffic()
    expect(chain.log_says("the PF stays in reset"), chain.daemon.errors)
    chain.finish()


def flapping_link(lab: Lab) -> None:
    chain = Chain(lab)
    chain.fault("link-flap 300")
    wait_until(lambda: chain.vf()["link_downs"] >= 3, "vitrine to see the link go three times")
    expect(chain.log_says("VF: link down"), chain.daemon.errors)
    chain.daemon.expect_clean_audit()
    chain.fault("clear")
    chain.finish()


def surprise_removal(lab: Lab) -> None:
    chain = Chain(lab)
    for removal in range(1, ROUNDS + 1):
        chain.fault("removed")
        wait_until(lambda: chain.vf()["losses"] == removal, "vitrine to notice")
        expect(chain.log_says("its registers read all ones"), chain.daemon.errors)
        wait_until(lambda: chain.vf()["state"] == "absent", "the VF to be called absent")
        chain.daemon.expect_clean_audit()
        chain.fault("clear")
        chain.expect_traffic()
    chain.finish()


def harmless(lab: Lab) -> None:
    """Fields that vitrine does not believe in."""
    chain = Chain(lab)
    for lie in ("rss-type 15", "packet-type 8191", "rss-hash 4294967295", "vlan 1", "l4-checked 1", "l4-error 1",
                "ip-error 1", "vlan-tag 65535", "loopback 1"):
        chain.fault(f"lie {lie}")
    chain.expect_traffic()
    expect_equal(sum(chain.vf()["troubles"].values()), 0, "troubles")
    chain.fault("clear")
    chain.finish()


def script(lab: Lab) -> None:
    """The same by a file with times."""
    path = lab.directory / "script"
    path.write_text("# off and on again\n2000 fault tx-stuck\n9000 fault clear\n")
    simulator = lab.simulator(ENDLESS, "--doorbells", "poll", "--script", str(path))
    daemon = lab.daemon()
    guest = ledger.receiving_guest(lab, "echo")
    wait_until(lambda: daemon.status()["vf"]["troubles"]["tx_stuck"] > 0, "the script's fault")
    sent = simulator.status()["tx"]["frames"]
    wait_until(lambda: simulator.status()["tx"]["frames"] > sent + 200, "traffic after the script's end")
    expect_equal(simulator.status()["script"]["failed"], 0, "lines of the script that failed")
    guest.stop()
    daemon.expect_clean_audit()


def main() -> None:
    suite = harness.Suite()
    for fault, name, resets in (("tx-stuck", "tx_stuck", True), ("tx-lost", "tx_stuck", True),
                                ("rx-stall", "rx_stalled", True),
                                ("dma", "rx_stalled", True), ("lie done 0", "rx_stalled", True),
                                ("rx-delay 60000", "rx_stalled", True), ("rx-reorder 2", "out_of_order", False),
                                ("rx-duplicate", "rx_surplus", False), ("lie length 65535", "bad_descriptor", False),
                                ("lie length 0", "bad_descriptor", False), ("lie length 2000", "rx_surplus", False),
                                ("lie end-of-packet 0", "rx_stalled", True), ("lie mac-error 1", "rx_error", False)):
        suite.check(f"fault {fault}: {name}", trouble, fault, name, resets)
    suite.check("fault mailbox-silent: a reset fails, until the PF speaks again", mailbox, "mailbox-silent",
                "mailbox_silent", "the PF is silent")
    suite.check("fault mailbox-nack: a reset fails, until the PF agrees again", mailbox, "mailbox-nack", "failures",
                "the PF refuses our MAC address")
    suite.check("fault mailbox-version: not believed", wrong_version)
    suite.check("fault rsti: resets fail while it lasts", reset_indication)
    suite.check("fault link-flap: the link goes and comes", flapping_link)
    suite.check("fault removed: the VF is lost, and found again", surprise_removal)
    suite.check("fault lie: what is not believed does no harm", harmless)
    suite.check("a script's fault comes and goes at its times", script)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
